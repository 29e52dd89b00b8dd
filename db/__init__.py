"""The store: every SQL statement of Slackline lives here."""
