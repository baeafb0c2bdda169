"""``SqlConfigStore``: configurations in SQLite or PostgreSQL.

store       the store itself            database   address, transactions, errors
rows        records as rows and back    tables     the schema; migrate and migrations/ bring it about
keys        encryption, the key file    names      what is unique, what servers are called
old_table   what DoogieBot itself kept
peers       other processes: postgres and sqlite are the two ways to hear of them and to exclude them; news, locks
"""

from doogie_client.service.sql.old_table import OldConfig, OldTableImport
from doogie_client.service.sql.store import Rotation, SqlConfigStore

__all__ = ["OldConfig", "OldTableImport", "Rotation", "SqlConfigStore"]
