"""The commands of `docs/api.md` do what the page shows, on a whole Slackline."""

import shutil

import pytest

from tests.console import missing_fields, steps_of
from tests.record_examples import PAGE, console_of_the_page


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page is about curl")
def test_every_command_of_the_page_brings_what_the_page_shows() -> None:
    steps = list(steps_of(PAGE))
    assert len(steps) > 30
    with console_of_the_page() as console:
        for step in steps:
            ran = console.run(step)
            assert ran.status == 0, ran
            assert missing_fields(ran) == set(), ran
            if ran.head and '"error":{' not in step.output:
                assert ran.head.split()[1][0] in "23", ran
