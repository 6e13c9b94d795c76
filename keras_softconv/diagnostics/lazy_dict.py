"""A dict some values of which are made when somebody reads them."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any


class LazyDict(dict):
    """A dict of plain data, for which some values are made at the first reading.

    It equals, and is written by `json`, `pickle` and `copy` as, the plain dict of all
    values. Whatever reads all values makes all of them; `keys`, `len` and `in` make none.
    Only `copy`, `copy.deepcopy` and `pickle` keep values that are not made yet so.
    """

    # The functions that make values, by key. The dict itself holds None under these keys,
    # so that they keep their order. A dict that was pickled when there were no makers has
    # those of the class.
    _makers: Mapping[str, Callable[[], Any]] = MappingProxyType({})

    @classmethod
    def with_makers(cls, values: dict, makers: dict[str, Callable[[], Any]]) -> "LazyDict":
        """A dict of values, some of which are to be made.

        Args:
            values: all keys in their order, with any value where there is a maker.
            makers: by key, functions without arguments, which can be pickled.
        """
        made = cls(values)
        made._makers = dict(makers)
        return made

    def maker(self, key: Any) -> Callable[[], Any] | None:
        """What would make the value; None if it is made."""
        return self._makers.get(key)

    def _make(self, key: Any) -> None:
        maker = self._makers.get(key)
        if maker is not None:
            self[key] = maker()

    def _make_all(self) -> None:
        for key in list(self._makers):
            self._make(key)

    def _forget(self, key: Any) -> None:
        if key in self._makers:
            self._makers = {name: m for name, m in self._makers.items() if name != key}

    # One value.

    def __getitem__(self, key: Any) -> Any:
        self._make(key)
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        self._make(key)
        return super().get(key, default)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self._forget(key)

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        self._forget(key)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        self._make(key)
        return super().setdefault(key, default)

    def pop(self, key: Any, *default: Any) -> Any:
        self._make(key)
        return super().pop(key, *default)

    def popitem(self) -> tuple[Any, Any]:
        self._make_all()
        return super().popitem()

    # All values.

    def __iter__(self) -> Iterator:
        # Without a method of its own, `dict(self)` would copy what is not made yet.
        return super().__iter__()

    def items(self) -> Any:
        self._make_all()
        return super().items()

    def values(self) -> Any:
        self._make_all()
        return super().values()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LazyDict):
            other._make_all()
        self._make_all()
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __or__(self, other: Any) -> dict:
        return dict(self) | other

    def __ror__(self, other: Any) -> dict:
        return other | dict(self)

    def __ior__(self, other: Any) -> "LazyDict":
        self.update(other)
        return self

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def clear(self) -> None:
        super().clear()
        self._makers = {}

    # Copies.

    def copy(self) -> "LazyDict":
        return type(self).with_makers(self._as_it_is(), self._makers)

    def __reduce__(self) -> tuple:
        return type(self).with_makers, (self._as_it_is(), self._makers)

    def _as_it_is(self) -> dict:
        return dict(super().items())
