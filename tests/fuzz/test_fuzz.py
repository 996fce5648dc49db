"""Every reader of foreign bytes comes to an end that it states, whatever it is given."""

import pytest

from tests.fuzz.readers import READERS
from tests.fuzz.run import check


@pytest.mark.slow  # a second or two for each reader
@pytest.mark.parametrize("name", READERS)
def test_reader_ends_as_stated_on_broken_files(name: str) -> None:
    check(READERS[name], examples=READERS[name].examples, seed=0)
