"""What the engine and the kernel say of the containers that the proxy starts."""

from pathlib import Path

from tests.support.harness import (
    ProxyUnderTest,
    inspect,
    policy_document,
    proc,
    process_status,
    proxy_under_test,
    toolbox_rule,
)


async def test_first_process_is_unprivileged_in_every_way_the_kernel_knows(proxy: ProxyUnderTest) -> None:
    container = inspect((await proxy.start("box", "sleep"))["container_id"])
    status = process_status(container["State"]["Pid"])
    assert status["Uid"].split() == ["65532"] * 4
    assert status["Gid"].split() == ["65532"] * 4
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


async def test_engine_confirms_each_limit_and_wall(proxy: ProxyUnderTest) -> None:
    container = inspect((await proxy.start("box", "sleep"))["container_id"])
    host = container["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["NetworkMode"] == "none"
    assert list(container["NetworkSettings"]["Networks"]) == ["none"]
    assert host["Memory"] == host["MemorySwap"] == 256 * 2**20
    assert host["PidsLimit"] == 64
    assert host["NanoCpus"] == 500_000_000
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["Privileged"] is False
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["IpcMode"] == "private"
    assert host["CgroupnsMode"] == "private"
    assert not host["Binds"]
    assert not host["PortBindings"]
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["ShmSize"] == 16 * 2**20
    assert host["LogConfig"]["Type"] == "local"
    assert [(mount["Type"], mount["Destination"]) for mount in container["Mounts"] if mount["Type"] != "tmpfs"] == []
    assert container["Config"]["Healthcheck"] == {"Test": ["NONE"]}
    assert container["Config"]["StopSignal"] == "SIGTERM"
    assert container["Image"].startswith("sha256:")


async def test_container_sees_a_read_only_root_a_sized_noexec_tmp_and_no_network(proxy: ProxyUnderTest) -> None:
    container = inspect((await proxy.start("box", "sleep"))["container_id"])
    pid = container["State"]["Pid"]
    mounts = [line.split() for line in proc(pid, "mounts").splitlines()]
    options = {fields[1]: set(fields[3].split(",")) for fields in mounts}
    kinds = {fields[1]: fields[2] for fields in mounts}
    assert "ro" in options["/"]
    assert kinds["/tmp"] == "tmpfs"
    assert {"rw", "noexec", "nosuid", "nodev", "size=16384k"} <= options["/tmp"]
    interfaces = {line.split(":")[0].strip() for line in proc(pid, "net/dev").splitlines() if ":" in line}
    assert interfaces == {"lo"}


async def test_nothing_the_image_sets_weakens_the_rule(engine: str, tmp_path: Path) -> None:
    image = "doogie-test/hostile:1"  # USER root, VOLUME /data, HEALTHCHECK, STOPSIGNAL SIGKILL, traefik label, ONBUILD
    document = policy_document(toolbox_rule(images=[image]))
    async with proxy_under_test(tmp_path, document) as proxy:
        container = inspect((await proxy.start("box", "sleep", image=image))["container_id"])
        status = process_status(container["State"]["Pid"])
        assert status["Uid"].split() == ["65532"] * 4
        assert container["Config"]["Healthcheck"]["Test"] == ["NONE"]
        assert "Health" not in container["State"]
        assert container["Config"]["StopSignal"] == "SIGTERM"
        assert container["Config"]["Labels"]["traefik.enable"] == ""
        assert {mount["Type"] for mount in container["Mounts"]} <= {"tmpfs"}, "no anonymous volume for VOLUME /data"
        mounts = proc(container["State"]["Pid"], "mounts")
        assert any(line.split()[1:3] == ["/data", "tmpfs"] for line in mounts.splitlines())


async def test_images_that_cannot_be_made_safe_are_refused_before_anything_is_created(
    engine: str, tmp_path: Path
) -> None:
    for image, why in (("doogie-test/no-entrypoint:1", "ENTRYPOINT"), ("doogie-test/volume-root:1", "VOLUME")):
        async with proxy_under_test(tmp_path, policy_document(toolbox_rule(images=[image]))) as proxy:
            answer = await proxy.call("POST", "/v1/servers/box/start", {"image": image, "args": ["sleep"]})
            assert (answer.status, answer.problem) == (403, "policy-denied")
            assert why in answer.json["detail"]
            assert proxy.recorder.creates() == []


async def test_memory_limit_ends_the_hungry_with_reason_oom(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(resources={"memory": "32MiB"})
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        assert (await proxy.run_out_of_memory("hungry"))["reason"] == "oom"
