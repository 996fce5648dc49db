"""Tables of contents as Python 3.11.0 to 3.11.3 write them, which pickle an enum's member as an attribute."""

import io
import pickle
from typing import Any

import pytest
from torch.distributed.checkpoint import metadata

from model.table import TableError, _TableUnpickler

FORMATS = metadata._MEM_FORMAT_ENCODING


class Attribute:
    def __init__(self, owner: Any, name: str):
        self.parts = owner, name

    def __reduce__(self) -> tuple[Any, tuple[Any, str]]:
        return getattr, self.parts


def load(owner: Any, name: str) -> Any:
    return _TableUnpickler(io.BytesIO(pickle.dumps(Attribute(owner, name)))).load()


@pytest.mark.parametrize("member", list(FORMATS))
def test_memory_format_may_be_an_attribute(member: Any) -> None:
    assert load(FORMATS, member.name) is member


@pytest.mark.parametrize(("owner", "name"), [(FORMATS, "__class__"), (FORMATS, "mro"), (metadata.Metadata, "__init__")])
def test_any_other_attribute_is_refused(owner: Any, name: str) -> None:
    with pytest.raises(TableError, match="which no checkpoint needs"):
        load(owner, name)
