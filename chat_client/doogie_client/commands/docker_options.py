"""What becomes of every option of ``docker run``. Pure data; ``docs/commands.md`` shows it as a table.

Source: docker/cli, ``cli/command/container/opts.go`` and ``run.go``, from 20.10 on, hidden options and those of Windows
included; https://docs.docker.com/reference/cli/docker/container/run/. ``podman run`` is read with the same table.
"""

from collections.abc import Callable

from doogie_client.commands import rule_lines
from doogie_client.commands.errors import FaultKind
from doogie_client.commands.options import Always, ByValue, Mapped, Meaning, Option, Refused, Style, Table

ENV = "env"


def _policy(why: str, ask: Callable[[str], str]) -> Refused:
    return Refused(FaultKind.POLICY, why, ask)


def _never(why: str) -> Refused:
    return Refused(FaultKind.UNSUPPORTED, why)


def _line(line: str) -> Callable[[str], str]:
    return lambda _value: line


# --- told by the value ------------------------------------------------------------------------------------------------


def _attach(value: str) -> Always | Refused:
    if value.lower() in {"stdin", "stdout", "stderr"}:
        return Always("all three streams are attached")
    return Refused(FaultKind.MALFORMED, "only stdin, stdout and stderr can be attached")


def _network(value: str) -> Always | Refused:
    if value == "none":
        return Always("a rule that names no network gives none")
    if value == "host" or value.startswith("container:"):
        why = "the network of the host or of another container is never given; the policy may give one made for it"
        return _policy(why, _line("network: NETWORK"))
    return _policy("which network a server has, the policy decides", rule_lines.network)


def _security(value: str) -> Always | Refused:
    name, _, setting = value.replace(":", "=", 1).partition("=")
    if name == "no-new-privileges" and setting in {"", "true"}:
        return Always("no process gains privileges")
    if (name, setting) == ("seccomp", "builtin"):
        return Always("the engine's default profile is on")
    return _never("the walls around a container are the same for all and cannot be weakened")


def _ulimit(value: str) -> Always | Refused:
    name, _, limits = value.partition("=")
    if name == "nofile":
        line = rule_lines.resource("nofile", rule_lines.count)(limits.split(":")[0])
        return _policy("how many files a server may open, the policy decides", _line(line))
    return _never("of these limits, a rule has only nofile, in its resources")


def _log_driver(value: str) -> Always | Refused:
    if value == "none":
        return _policy("whether output touches the engine's disk, the policy decides", _line("stdio: {replay: none}"))
    return _LOGS


def _tmpfs(value: str) -> Always | Refused:
    if value.rstrip("/") == "/tmp":  # noqa: S108 - of a container, where it is its own
        return Always("there is one in any case")
    return _policy("which directories are writable, the policy decides", rule_lines.tmpfs)


def _volume(value: str) -> Always | Refused:
    return _files(value, rule_lines.volume(value))


def _mount(value: str) -> Always | Refused:
    return _files(value, rule_lines.mount(value))


def _files(value: str, line: str) -> Always | Refused:
    if rule_lines.is_engine_socket(value):
        return _SOCKET
    if not line.startswith("mounts"):
        return _policy("which directories are writable, the policy decides", _line(line))
    return _policy(
        "which files a server sees, the policy decides, and `mounts` of the configuration names them", _line(line)
    )


# --- reasons, many of them shared -----------------------------------------------------------------------------------

_ADDRESSES = _never("addresses are the engine's to give")
_CPUS = _policy("how much CPU a server has, the policy decides", rule_lines.resource("cpus", rule_lines.cpus))
_CPU_PLACE = _never("a rule limits CPU by resources.cpus only")
_CPU_TIME = _policy("how much CPU a server has, the policy decides, in cores", _line("resources: {cpus: CORES}"))
_DETACHED = _never("a server is spoken to over its stdin and stdout as long as it runs")
_DEVICES = _never("devices are never given to a server")
_DISK = _never("a server's root is read-only, and its disk bandwidth is not limited")
_ENTRYPOINT = _policy("which program of an image runs, the policy decides", rule_lines.entrypoint)
_ENV = Mapped(ENV, "`env`; without a value, the one that the configuration has")
_ENV_FILE = _never("it is a file of another machine: write its variables into env, or name secrets of the rule")
_GRACE = _policy("how long an end may take, the policy decides", rule_lines.stop_grace)
_GROUP = _policy("as whom a server runs, the policy decides", _line("user: UID:GID"))
_HARDENED = _never("privileges are never given to a server")
_HEALTH = _never("health checks are off; the chat side sees at once when a server ends")
_HELP = _never("it prints a text and runs nothing")
_HOSTNAME = _never("a server's host name is its container's id")
_IMAGE_PINNED = Always("which image runs is pinned by the policy, and the command fetches nothing")
_ISOLATED = _never("a server's namespaces are its own")
_KEPT = _policy("an ended container is removed, its logs after a while", _line("lifetime: {keep_exited_s: SECONDS}"))
_LABELS = _never("a container's labels are the proxy's, as other programs on the engine obey them")
_LOGS = _never("where output is kept, the proxy decides")
_MEMORY = _policy("how much memory a server has, the policy decides", rule_lines.resource("memory", rule_lines.size))
_NAMED = Always("the container is named after the configuration")
_NAMES = _policy("name resolution is that of the network that the policy gives", _line("network: NETWORK"))
_NO_TERMINAL = Always("MCP needs a pipe and gets one, never a terminal")
_OOM = _never("a server that exceeds its memory is ended")
_OWN_CGROUPS = Always("it has its own", _ISOLATED, frozenset({"private"}))
_PIDS = _policy("how many processes a server has, the policy decides", rule_lines.resource("pids", rule_lines.count))
_PLATFORM = _policy("which image runs, the policy decides, by the digest of one for its machine", rule_lines.pinned)
_REACHES = _policy("whom a server reaches, its network decides", _line("network: NETWORK"))
_ROOT = _never("it would be root on the engine's host")
_RUNTIME = _policy("in which runtime a server runs, the policy decides", rule_lines.runtime)
_SHM = _policy("how large /dev/shm is, the policy decides", rule_lines.resource("shm", rule_lines.size))
_SIGNALS = Always("no signal of yours reaches a server; stopping it sends one")
_SOCKET = _never("whoever has the engine's socket is root on its host; no server gets it")
_STDIO_ONLY = _never("nothing connects to a server but over stdin and stdout; find out how it speaks MCP there")
_STOP_SIGNAL = _never("a server is ended by SIGTERM, then SIGKILL")
_SWAP = _never("swap is off, and a rule has one limit, its resources.memory")
_USER = _policy("as whom a server runs, the policy decides; never as root", rule_lines.user)
_VOLUMES = _never("a server shares no files with other containers, and volumes are made by the operator")
_WORKDIR = _policy("where a server begins, the policy decides", rule_lines.workdir)
_WRITABLE_ROOT = _policy("the root is read-only; what else is writable, the policy says", _line("tmpfs: {PATH: 64MiB}"))
_ALL_STREAMS = "stdin, stdout, stderr: all three are attached"
_OR_NETWORK = "none: so in any case; else ask for `network: NAME`, which is never the host's"
_OR_MOUNT = "ask for `mounts: {NAME: …}`, which `mounts` names then; no source: `tmpfs`; the engine's socket: never"
_OR_TMPFS = (
    "its size at /tmp: ask for `resources: {tmp: SIZE}`; elsewhere for `tmpfs: {PATH: SIZE}`; /tmp alone is there"
)
_OR_REPLAY = "none: ask for `stdio: {replay: none}`; else never"
_OR_NOFILE = "nofile: ask for `resources: {nofile: NUMBER}`; else never"
_OR_WALLS = "no-new-privileges, seccomp=builtin: so in any case; else never"
_INIT = Always("an init process forwards signals and reaps", _never("there is one in any case"))
_STDIN = Always("stdin is open", _never("MCP speaks over stdin, so it is open in any case"))
_ISOLATION = Always("it is the engine's own", _never("others exist on Windows only"), frozenset({"default"}))
_NO_HEALTH = Always("health checks are off", _HEALTH)
_READ_ONLY = Always("the root file system is read-only", _WRITABLE_ROOT)
_RESTART = Always(
    "the engine restarts nothing", _never("a restarted server would not know its client"), frozenset({"no"})
)
_RM = Always("an ended container is removed", _KEPT)
_CAPS = Always("all capabilities are dropped")


def _flag(names: str, meaning: Meaning) -> Option:
    return Option(tuple(names.split()), meaning)


def _valued(names: str, takes: str, meaning: Meaning) -> Option:
    return Option(tuple(names.split()), meaning, takes)


DOCKER_RUN = Table(
    Style.PFLAG,
    [
        _valued("--add-host", "HOST:IP", _REACHES),
        _valued("--annotation", "KEY=VALUE", _LABELS),
        _valued("--attach -a", "STREAM", ByValue(_attach, _ALL_STREAMS)),
        _valued("--blkio-weight", "WEIGHT", _DISK),
        _valued("--blkio-weight-device", "DEVICE:WEIGHT", _DISK),
        _valued("--cap-add", "CAPABILITY", _HARDENED),
        _valued("--cap-drop", "CAPABILITY", _CAPS),
        _valued("--cgroup-parent", "CGROUP", _never("where a container is accounted, the engine decides")),
        _valued("--cgroupns", "MODE", _OWN_CGROUPS),
        _valued("--cidfile", "FILE", _never("the container's id is in the server's status")),
        _valued("--cpu-count", "NUMBER", _CPUS),
        _valued("--cpu-percent", "PERCENT", _CPU_TIME),
        _valued("--cpu-period", "MICROSECONDS", _CPU_TIME),
        _valued("--cpu-quota", "MICROSECONDS", _CPU_TIME),
        _valued("--cpu-rt-period", "MICROSECONDS", _CPU_PLACE),
        _valued("--cpu-rt-runtime", "MICROSECONDS", _CPU_PLACE),
        _valued("--cpu-shares -c", "WEIGHT", _CPU_PLACE),
        _valued("--cpus", "CORES", _CPUS),
        _valued("--cpuset-cpus", "CPUS", _CPU_PLACE),
        _valued("--cpuset-mems", "NODES", _CPU_PLACE),
        _flag("--detach -d", _DETACHED),
        _valued("--detach-keys", "KEYS", _NO_TERMINAL),
        _valued("--device", "DEVICE", _DEVICES),
        _valued("--device-cgroup-rule", "RULE", _DEVICES),
        _valued("--device-read-bps", "DEVICE:RATE", _DISK),
        _valued("--device-read-iops", "DEVICE:RATE", _DISK),
        _valued("--device-write-bps", "DEVICE:RATE", _DISK),
        _valued("--device-write-iops", "DEVICE:RATE", _DISK),
        _flag("--disable-content-trust", _IMAGE_PINNED),
        _valued("--dns", "ADDRESS", _NAMES),
        _valued("--dns-option --dns-opt", "OPTION", _NAMES),
        _valued("--dns-search", "DOMAIN", _NAMES),
        _valued("--domainname", "NAME", _HOSTNAME),
        _valued("--entrypoint", "PROGRAM", _ENTRYPOINT),
        _valued("--env -e", "NAME[=VALUE]", _ENV),
        _valued("--env-file", "FILE", _ENV_FILE),
        _valued("--expose", "PORT", _STDIO_ONLY),
        _valued("--gpus", "GPUS", _DEVICES),
        _valued("--group-add", "GROUP", _GROUP),
        _valued("--health-cmd", "COMMAND", _HEALTH),
        _valued("--health-interval", "DURATION", _HEALTH),
        _valued("--health-retries", "NUMBER", _HEALTH),
        _valued("--health-start-interval", "DURATION", _HEALTH),
        _valued("--health-start-period", "DURATION", _HEALTH),
        _valued("--health-timeout", "DURATION", _HEALTH),
        _flag("--help", _HELP),
        _valued("--hostname -h", "NAME", _HOSTNAME),
        _flag("--init", _INIT),
        _flag("--interactive -i", _STDIN),
        _valued("--io-maxbandwidth", "RATE", _DISK),
        _valued("--io-maxiops", "RATE", _DISK),
        _valued("--ip", "ADDRESS", _ADDRESSES),
        _valued("--ip6", "ADDRESS", _ADDRESSES),
        _valued("--ipc", "MODE", _OWN_CGROUPS),
        _valued("--isolation", "TECHNOLOGY", _ISOLATION),
        _valued("--kernel-memory", "SIZE", _SWAP),
        _valued("--label -l", "KEY=VALUE", _LABELS),
        _valued("--label-file", "FILE", _LABELS),
        _valued("--link", "CONTAINER", _REACHES),
        _valued("--link-local-ip", "ADDRESS", _ADDRESSES),
        _valued("--log-driver", "DRIVER", ByValue(_log_driver, _OR_REPLAY)),
        _valued("--log-opt", "KEY=VALUE", _LOGS),
        _valued("--mac-address", "ADDRESS", _ADDRESSES),
        _valued("--memory -m", "SIZE", _MEMORY),
        _valued("--memory-reservation", "SIZE", _SWAP),
        _valued("--memory-swap", "SIZE", _SWAP),
        _valued("--memory-swappiness", "PERCENT", Always("swap is off")),
        _valued("--mount", "MOUNT", ByValue(_mount, _OR_MOUNT)),
        _valued("--name", "NAME", _NAMED),
        _valued("--network --net", "NETWORK", ByValue(_network, _OR_NETWORK)),
        _valued("--network-alias --net-alias", "NAME", _never("nothing connects to a server by its name")),
        _flag("--no-healthcheck", _NO_HEALTH),
        _flag("--oom-kill-disable", _OOM),
        _valued("--oom-score-adj", "NUMBER", _OOM),
        _valued("--pid", "MODE", _ISOLATED),
        _valued("--pids-limit", "NUMBER", _PIDS),
        _valued("--platform", "PLATFORM", _PLATFORM),
        _flag("--privileged", _ROOT),
        _valued("--publish -p", "PORT", _STDIO_ONLY),
        _flag("--publish-all -P", _STDIO_ONLY),
        _valued("--pull", "WHEN", _IMAGE_PINNED),
        _flag("--quiet -q", _IMAGE_PINNED),
        _flag("--read-only", _READ_ONLY),
        _valued("--restart", "WHEN", _RESTART),
        _flag("--rm", _RM),
        _valued("--runtime", "RUNTIME", _RUNTIME),
        _valued("--security-opt", "OPTION", ByValue(_security, _OR_WALLS)),
        _valued("--shm-size", "SIZE", _SHM),
        _flag("--sig-proxy", _SIGNALS),
        _valued("--stop-signal", "SIGNAL", _STOP_SIGNAL),
        _valued("--stop-timeout", "SECONDS", _GRACE),
        _valued("--storage-opt", "KEY=VALUE", _DISK),
        _valued("--sysctl", "KEY=VALUE", _HARDENED),
        _valued("--tmpfs", "PATH[:OPTIONS]", ByValue(_tmpfs, _OR_TMPFS)),
        _flag("--tty -t", _NO_TERMINAL),
        _valued("--ulimit", "NAME=LIMIT", ByValue(_ulimit, _OR_NOFILE)),
        _flag("--use-api-socket", _SOCKET),
        _valued("--user -u", "USER", _USER),
        _valued("--userns", "MODE", _ISOLATED),
        _valued("--uts", "MODE", _ISOLATED),
        _valued("--volume -v", "[SOURCE:]TARGET[:OPTIONS]", ByValue(_volume, _OR_MOUNT)),
        _valued("--volume-driver", "DRIVER", _VOLUMES),
        _valued("--volumes-from", "CONTAINER", _VOLUMES),
        _valued("--workdir -w", "PATH", _WORKDIR),
    ],
)
"""In the order of the alphabet."""
