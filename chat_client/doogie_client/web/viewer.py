"""``Viewer``: what a user may see of configurations and their servers. The one place where roles are told apart.

=====================  =====  ==================  =========================
what                   admin  of one's own        shared
=====================  =====  ==================  =========================
see it, call it        all    yes                 yes
its arguments          all    yes                 ``***``
its log, last words    all    yes                 no: others may be in them
change, start, stop    all    no                  no
=====================  =====  ==================  =========================
"""

from dataclasses import dataclass

from doogie_client.service.records import ConfigRecord, ConfigStatus
from doogie_client.service.store import ConfigStore
from doogie_client.web.display import shown, shown_status
from doogie_client.web.models import Config, ConfigEvent
from doogie_client.web.users import Role, User


@dataclass(frozen=True)
class Viewer:
    """A user, over all that is stored."""

    user: User
    store: ConfigStore

    @property
    def is_admin(self) -> bool:
        """Whether this user may change, start and stop."""
        return self.user.role is Role.ADMIN

    async def list_visible(self, *, after: str | None = None, limit: int | None = None) -> list[ConfigRecord]:
        """What this user may see, by name; ``limit`` after that name. Raises ``StoreUnavailable``."""
        visible_to = None if self.is_admin else self.user.id
        return await self.store.list(visible_to=visible_to, after=after, limit=limit)

    async def list_usable(self) -> list[ConfigRecord]:
        """Those whose tools are this user's in a chat: their own and shared ones, for admins too."""
        return await self.store.list(visible_to=self.user.id)

    def may_see(self, record: ConfigRecord) -> bool:
        """Whether it is in ``list_visible``."""
        return record.shared or self.may_look_into(record)

    def may_look_into(self, record: ConfigRecord) -> bool:
        """Whether its arguments and what its server writes are for this user."""
        return self.is_admin or record.user_id == self.user.id

    def config(self, record: ConfigRecord) -> Config:
        """The configuration, as this user may see it."""
        own = {name: getattr(record, name) for name in Config.model_fields if name in ConfigRecord.model_fields}
        return Config.model_validate(shown(record.config, wholly=self.may_look_into(record)).model_dump() | own)

    def status(self, record: ConfigRecord, status: ConfigStatus) -> ConfigStatus:
        """The status, as this user may see it."""
        return shown_status(status, wholly=self.may_look_into(record))

    def event(self, record: ConfigRecord) -> ConfigEvent:
        """The configuration and what was last seen of its server, as this user may see them."""
        last = ConfigStatus(
            id=record.id,
            name=record.name,
            enabled=record.config.enabled,
            status=record.status,
            error_message=record.error_message,
        )
        return ConfigEvent(
            config=self.config(record),
            status=record.status,
            container_id=record.container_id,
            error_message=self.status(record, last).error_message,
        )
