"""The partitions of a router: which it wants, and the owners that it has.

Owns the owners from their take-over to their end. The group says which partitions to want. An owner
whose partition goes to another router sleeps: its hold may still be good when the partition comes
back. It reads and writes nothing; `membership` says what to want, and `router` does the rest.
"""

import asyncio
from collections.abc import Collection, Sequence

import structlog

from mesh.ports import Entropy, Reader, TopicPartition
from mesh.services.router.careful_mode import Place
from mesh.services.router.owner import Owner

_log = structlog.get_logger()


class Holdings:
    """`owners`: those that get records, by partition.

    `is_assigned`: the reader reads for exactly these. `outlived`: by partition, what its last owner
    here had announced (`careful_mode`) when it lost the partition. `retry_pause_s`: before a
    partition that was lost is taken again.
    """

    def __init__(self, retry_pause_s: float, entropy: Entropy) -> None:
        self.owners: dict[int, Owner] = {}
        self.is_assigned = True
        self.outlived: dict[int, Place | None] = {}
        self._asleep: dict[int, Owner] = {}
        self._wanted: set[int] = set()
        self._retake_at = 0.0
        self._retry_pause_s = retry_pause_s
        self._entropy = entropy

    @property
    def is_complete(self) -> bool:
        """Whether it owns every partition that the group gives it, and the group gives it some."""
        return bool(self._wanted) and self._wanted <= self.owners.keys()

    @property
    def missing(self) -> Collection[int]:
        """The partitions that the group gives it and that it does not own yet."""
        return self._wanted - self.owners.keys()

    def all_owners(self) -> Sequence[Owner]:
        """All owners, the sleeping ones too."""
        return [*self.owners.values(), *self._asleep.values()]

    def want(self, partitions: Collection[int]) -> None:
        """Want these partitions too: the group gives them to us."""
        self._wanted.update(partitions)

    def give_up(self, partitions: Collection[int]) -> Sequence[Owner]:
        """Want these partitions no longer. Returns their owners, which get no more records."""
        self._wanted.difference_update(partitions)
        leaving = [self.owners.pop(partition) for partition in partitions if partition in self.owners]
        # Kept, not dropped: many rebalances give a partition back, and then its owner
        # goes on without a take-over. If another router has written meanwhile, the
        # acknowledgement of its next append shows it.
        self._asleep.update((owner.partition, owner) for owner in leaving)
        self.is_assigned = False
        return leaving

    def want_only(self, held: set[int]) -> None:
        """Want exactly the partitions that the group gives us."""
        # A partition that is lost to a time-out is lost without notice (`GroupListener`). A router
        # that kept wanting it would take it from its new owner, and so on without end.
        lost = self._wanted - held
        if lost:
            _log.warning("partitions_lost", partitions=sorted(lost))
            self.give_up(lost)
        self._wanted = held

    def renew(self) -> Collection[int]:
        """Drop the owners that are lost, and wake those whose partition is back.

        Returns the partitions to take over now.
        """
        # an owner that is lost never comes back; its partition is
        # taken by a new one with a new token
        for partition, owner in list(self.owners.items()):
            if owner.is_lost():
                del self.owners[partition]
                self._outlive(owner)
                self.is_assigned = False
                self._pause()
        for partition in self._wanted & self._asleep.keys():
            owner = self._asleep.pop(partition)
            if owner.is_lost():
                self._outlive(owner)
            else:
                owner.wake()
                self.owners[partition] = owner
                self.is_assigned = False
        missing = self.missing
        return missing if missing and asyncio.get_running_loop().time() >= self._retake_at else ()

    def _outlive(self, owner: Owner) -> None:
        self.outlived[owner.partition] = owner.careful.announced or owner.careful.outlived

    def take_in(self, owners: Sequence[Owner]) -> None:
        """Take in what a take-over has made ready, or lost."""
        taken = [owner for owner in owners if not owner.is_lost()]
        for owner in owners:
            if owner.is_lost():
                self._outlive(owner)
        for owner in taken:
            # it may have been revoked while it was taken over
            (self.owners if owner.partition in self._wanted else self._asleep)[owner.partition] = owner
        if len(taken) < len(owners):
            self._pause()
        self.is_assigned = False
        _log.info("partitions_taken_over", partitions=[owner.partition for owner in taken])

    def assign(self, reader: Reader) -> None:
        """Let the reader read for the owners that there are now."""
        if not self.is_assigned:
            self.is_assigned = True
            reader.assign(
                {TopicPartition(t, p): at for p, owner in self.owners.items() for t, at in owner.inputs.read.items()}
            )

    def _pause(self) -> None:
        """Wait before the next take-over."""
        # Another pause for each router, or two of them would keep deposing each other.
        pause_s = self._retry_pause_s * (0.5 + int(self._entropy.token()[:4], 16) / 0xFFFF)
        self._retake_at = asyncio.get_running_loop().time() + pause_s
