"""Writes to MySQL and MariaDB: what stands in `window.yaml`, and the targets that it asks for.

The statements are in `target.py`, the session from before the window in `held.py`, the rules of
configuration and refusal in `spec.py`.
"""

from probes.tools import Tools
from probes.write.mysql.held import HeldMysqlTarget
from probes.write.mysql.spec import HeldMysql, MysqlRefusal, MysqlWrite
from probes.write.mysql.target import MysqlTarget

__all__ = ["HeldMysql", "HeldMysqlTarget", "MysqlRefusal", "MysqlTarget", "MysqlWrite", "mysql_write"]


def mysql_write(spec: MysqlWrite, timeout: float, tools: Tools) -> MysqlTarget:
    """What `spec` writes to, over fresh sessions or over one from before the window."""
    if isinstance(spec, HeldMysql):
        return HeldMysqlTarget(spec, timeout=timeout, tools=tools)
    return MysqlTarget(spec, timeout=timeout, tools=tools)
