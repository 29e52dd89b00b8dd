"""The web page: files that the browser runs as they are, and the routes that serve them."""
