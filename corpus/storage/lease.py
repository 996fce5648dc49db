"""Leases: one writer at a place, wherever the writers run.

    acquire ─▶ LOCATION/.lease.json {token, holder, renewals} ─ renewed by a thread ─▶ check before changes ─▶ release

The lease is a file at the place that it protects, changed only by `Store.swap`. A holder renews it every `RENEWAL`
seconds. Whoever comes later waits: a holder whose process has ended on this machine is replaced at once, one whose
lease has not changed for `SECONDS` (by the waiting process's clock, so clocks need not agree) after that time, and one
that still renews it is an error. A holder that was replaced, because it was paused or cut off, learns so from `check`.

Between a `check` and the change after it, a process can be paused. What must hold even then is done by conditional
requests: files are created and not overwritten, and deleted by their version (`Store.put`, `Store.delete`).
"""

import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

from corpus.storage import StorageError
from corpus.storage.store import Store

LEASE = ".lease.json"
FORMAT = "millrace-lease/1"
SECONDS = 60.0
"""Time without a renewal after which a holder has lost its lease to whoever waits for it."""
RENEWAL = 10.0
"""Seconds between renewals."""
POLL = 1.0
"""Seconds between two looks at the lease of another holder."""
CONFLICTS = 5
"""Attempts of a change between which another process changes the same file."""
SETTLE = 2.0
"""Seconds after which a lease is read again, at a store without conditional requests."""

log = logging.getLogger(__name__)


class LeaseError(StorageError):
    """Another process writes to the place, or has taken it over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Content of `LEASE`."""

    format: str = FORMAT
    token: str
    """Names one acquisition."""
    program: str
    """What the process does, for messages."""
    host: str
    """Name of the machine, for messages."""
    machine: str
    """Identity of the machine since it was started, and of the space of its process numbers; empty: not known."""
    pid: int
    started: str
    """When the process started, in the machine's own units."""
    renewals: int = 0

    def __str__(self) -> str:
        return f"{self.program} (process {self.pid} on {self.host})"

    def content(self) -> bytes:
        """The file's bytes."""
        return json.dumps(asdict(self), indent=1).encode()

    @property
    def has_ended(self) -> bool:
        """Whether the process is known to have ended, or is this one."""
        if not self.machine or self.machine != _machine():
            return False
        return self.pid == os.getpid() or _start_of(self.pid) != self.started


class Lease:
    """A lease that this process holds; a context manager that releases it. See `acquire`."""

    def __init__(self, store: Store, holder: Holder, *, conditional: bool) -> None:
        self._store = store
        self._holder = holder
        self.conditional = conditional
        """Whether the store has conditional requests."""
        self._lost = ""
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def check(self) -> None:
        """Raise unless this process is still the holder; reads the lease.

        Raises
        ------
        LeaseError
            Another process has taken over, or the lease was deleted.
        """
        self._current()

    def put(self, store: Store, local: Path, name: str, *, mark: str | None = None) -> None:
        """Store a file at the place, over one with that `Entry.mark`; a process that was paused cannot replace it.

        Raises
        ------
        LeaseError
            This process is not the holder any more.
        """
        for _ in range(CONFLICTS):
            self.check()
            if not self.conditional:
                store.put(local, name)
                return
            try:
                if mark is not None:
                    store.delete(name, mark=mark)
                store.put(local, name, create=True)
                return
            except FileExistsError:
                with suppress(FileNotFoundError):
                    mark = store.mark(name)
        raise LeaseError(f"{store.shown}/{name}: another process keeps writing this file; stop it")

    def release(self) -> None:
        """Delete the lease, unless it is another process's by now."""
        self._released.set()
        self._thread.join()
        try:
            for _ in range(CONFLICTS):
                if self._store.swap(LEASE, None, expected=self._current().content()):
                    return
        except LeaseError:
            return
        except OSError as error:
            log.warning("the lease could not be released, so the next process has to wait for it: %s", error)

    def _current(self) -> Holder:
        if not self._lost:
            try:
                holder = _parse(self._store.read_confirmed(LEASE), self._store)
            except FileNotFoundError:
                self._lost = "its lease was deleted"
            else:
                if holder.token == self._holder.token:
                    return holder
                self._lost = f"{holder} has taken over"
        raise LeaseError(
            f"{self._store.shown}: {self._lost}, because this process was paused or cut off for more than "
            f"{SECONDS:.0f} s; it writes nothing more there"
        )

    def _renew(self) -> None:
        while not self._released.wait(RENEWAL):
            renewed = replace(self._holder, renewals=self._holder.renewals + 1)
            try:
                is_renewed = self._store.swap(LEASE, renewed.content(), expected=self._holder.content())
                self._holder = renewed if is_renewed else self._current()
            except LeaseError:
                return
            except OSError as error:  # until another process takes over nothing is lost
                log.warning("the lease could not be renewed: %s", error)


def acquire(store: Store, program: str, *, say: Callable[[str], None] = log.warning) -> Lease:
    """Become the only writer at a place.

    Parameters
    ----------
    store
        The place.
    program
        What this process does, for the messages of others, as in "a build".
    say
        Receives a message before a wait.

    Raises
    ------
    LeaseError
        Another process holds the lease and renews it, or the file is not a lease.
    StorageError
        The store fails.
    """
    own = Holder(
        token=uuid.uuid4().hex,
        program=program,
        host=platform.node(),
        machine=_machine(),
        pid=os.getpid(),
        started=_start_of(os.getpid()),
    )
    began = changed = time.monotonic()
    seen: bytes | None = None
    while True:
        found = _read(store)
        now = time.monotonic()
        holder = None if found is None else _parse(found, store)
        if holder is None or holder.has_ended or (found == seen and now - changed >= SECONDS):
            if holder is not None and not (holder.has_ended and holder.pid == own.pid):
                say(f"{store.shown}: continuing in place of {holder}, which has ended or is paused")
            if store.swap(LEASE, own.content(), expected=found):
                conditional = store.has_conditions(LEASE)
                if not conditional:
                    say(
                        f"{store.shown}: this store has no conditional requests, so that a process that was paused for "
                        f"{SECONDS:.0f} s can still write here; let no two processes write to this place"
                    )
                    time.sleep(SETTLE)
                if _read(store) == own.content():
                    return Lease(store, own, conditional=conditional)
            continue
        if seen is None:
            say(f"{store.shown}: is in use by {holder}; waiting up to {SECONDS:.0f} s for it to end or be found dead")
        if found != seen:
            seen, changed = found, now
        elif now - began >= SECONDS and now - changed < SECONDS / 2:
            raise LeaseError(
                f"{store.shown}: {holder} is writing there and renews its lease: wait until it ends, or use another "
                "place"
            )
        time.sleep(POLL)


def _read(store: Store) -> bytes | None:
    try:
        return store.read_confirmed(LEASE)
    except FileNotFoundError:
        return None


def _parse(content: bytes, store: Store) -> Holder:
    try:
        found = json.loads(content)
        holder = Holder(**found)
        if holder.format == FORMAT and isinstance(holder.pid, int):
            return holder
    except (ValueError, TypeError, RecursionError):
        pass
    raise LeaseError(
        f"{store.shown}/{LEASE}: is not a lease of this version; if no other process writes there, delete it"
    )


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return ""


def _start_of(pid: int) -> str:
    """When a process of this machine started; empty if it has ended, even if its parent has not yet waited for it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
