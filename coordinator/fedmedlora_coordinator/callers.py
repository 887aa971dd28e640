"""Who calls the federation listener, and whether the call is answered: one place for every service on it.

A service that decided by itself would sooner or later forget one half: that a refused call, too, costs
something and is counted, or that a certificate may have ended since its connection was made.
"""

from collections.abc import Container
from typing import Any, NoReturn

from fedmedlora_coordinator.admission import Admission
from fedmedlora_coordinator.errors import CoordinatorError, PeerRefusedError
from fedmedlora_coordinator.peer_limits import PeerLimits
from fedmedlora_coordinator.status import refuse
from fedmedlora_coordinator.transport import peer_certificate
from fedmedlora_protos.wire import PeerCertificate, Reason, WireError


class Callers:
    """Decides on the caller of every call, whichever service it is for."""

    def __init__(self, admission: Admission, limits: PeerLimits) -> None:
        """Take whose certificate gets in, and who calls too often."""
        self.admission = admission
        self.limits = limits

    # R2.1.8, R3.1.5
    def admit(self, context: Any, members: Container[str] | None = None) -> PeerCertificate:
        """Admit one call.

        Args:
            context: The call's.
            members: Who may make it; None for every site with a certificate that gets in.

        Raises:
            PeerRefusedError: A reason of the certificate, not_a_member, too_fast or too_many.
            StoreError: The register of certificates refused.
        """
        try:
            peer = peer_certificate(context)
            self.admission.check(peer)
            if members is not None and peer.site not in members:
                raise PeerRefusedError(Reason.NOT_A_MEMBER)
        except PeerRefusedError:
            self.limits.admit_refused(context.peer())
            raise
        self.limits.admit(peer.site, context.peer())
        return peer

    async def refused(self, context: Any, error: CoordinatorError | WireError) -> None:
        """Do what every refusal takes; who asks ends the call."""
        await self.limits.refused(context, error)

    async def end(self, context: Any, error: CoordinatorError | WireError) -> NoReturn:
        """End a call with the reason of its error."""
        await self.refused(context, error)
        await refuse(context, error)
