"""Images on a real engine: what is built, what it says of itself, which bases are refused."""

from __future__ import annotations

import io
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command_line import HEEDS
from docker_lab import DockerLab, images
from sandbox_process import until
from tiny_runs import cell, end

from runner.errors import InfrastructureError, UsageError
from runner.images import local
from runner.images.asking import ask
from runner.images.build import Base, build, find, find_base
from runner.images.context import Context, Facts
from runner.images.definition import read
from runner.images.engine import connected
from runner.images.probe import check, probe
from runner.settings import Build, Network

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

ON = os.environ.get("TEST_BASE") or Build().base
HOME = Path("~root").expanduser()  # Debian has it at the same place in containers
PLACE = "/opt/lab/lib/python3.11/site-packages"
LAB = f"""
RUN python3 -m venv /opt/lab && PATH=$PATH:/usr/sbin:/sbin dpkg --purge --force-depends git \
 && mkdir {PLACE}/labwords-1.0.dist-info \
 && echo "WORD = 'of the lab'" > {PLACE}/labwords.py \
 && printf 'Metadata-Version: 2.1\\nName: labwords\\nVersion: 1.0\\n' \
      > {PLACE}/labwords-1.0.dist-info/METADATA \
 && /usr/sbin/useradd --uid 1234 labuser
ENV PATH=/opt/lab/bin:$PATH PYTHONPATH=/opt/src PIP_CONSTRAINT=/nowhere.txt
LABEL org.opencontainers.image.revision=of-the-lab
USER labuser
ENTRYPOINT ["false"]
"""
KERNEL = """
from jupyter_client.manager import start_new_kernel
_, client = start_new_kernel()
client.execute_interactive("import labwords; print(labwords.WORD)", timeout=60)
client.shutdown()
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerClient]:
    """The engine, whose catalogue is afterwards without the images of these tests."""
    with connected() as client:
        yield client
        for image in local.every(client):
            if image.labels.name in ("small", "words"):
                # Its layers are what the next run need not build.
                client.api.tag(image.id, f"localhost/{image.labels.name}-built", "tests")
                client.images.remove(image.tag)


@pytest.fixture(scope="module")
def on(engine: DockerClient) -> Base:
    return find_base(engine, ON, print)


def runner(*words: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "images", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


def objects(*words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in runner(*words, "--json").splitlines()]


def made(engine: DockerClient, name: str, instructions: str, base: str = ON) -> str:
    """An image of the tests' own, by its tag."""
    tag = f"localhost/{name}:tests"
    file = io.BytesIO(f"FROM {base}\n{instructions}".encode())
    engine.images.build(fileobj=file, tag=tag, rm=True, forcerm=True)
    return tag


def small(*lines: str, **more: Any) -> Context:
    """An image of few instructions."""
    dockerfile = "\n".join(("ARG BASE", "FROM ${BASE}", *lines))
    facts = more.pop("facts", Facts("client"))
    return Context("small", facts, "0", {"Dockerfile": dockerfile.encode(), **more}, {})


def test_a_labs_python_is_the_kernels(engine: DockerClient) -> None:
    base = made(engine, "words", LAB)
    (built,) = objects("build", "--base", base, "--name", "words")
    assert built["tag"].startswith("runner/words:")

    def said(*command: str) -> str:
        answer = ask(engine, built["tag"], command)
        assert answer.status == 0, answer.errors
        return answer.text.strip()

    assert said("python", "-c", KERNEL) == "of the lab"
    assert said("python", "-c", "import sys; print(sys.prefix)") == "/opt/python"
    leaks = "import importlib.util as u; print(u.find_spec('{}'))"
    assert said("python", "-c", leaks.format("runner")) == "None"
    assert said("/opt/runner/bin/python", "-P", "-c", leaks.format("labwords")) == "None"
    assert said("/opt/runner/bin/python", "-P", "-c", "import runner.sandbox.server as s; print(s)")
    assert said("id", "-u") == "1000"
    assert said("git", "--version").startswith("git version")
    image = local.inspect(engine, built["tag"])
    assert image is not None
    assert image.image.name == "words"
    assert image.image.python == "/opt/python/bin/python"
    assert "labwords==1.0" in image.image.packages
    assert {"git", "perl-base"} <= {*image.image.system_packages}, "what the base has, too"
    assert not image.image.gpu
    (shown,) = objects("show", "words")
    assert shown["folder"] == "lab"
    assert shown["base_name"] == base
    assert shown["revision"] != "of-the-lab"
    assert shown["layers"]
    listed = {item["tag"]: item["current"] for item in objects("list")}
    assert listed[built["tag"]] is True


def test_a_run_on_a_labs_image(
    engine: DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", f"worker-{os.getpid()}")
    base = made(engine, "words", LAB)
    (built,) = objects("build", "--base", base, "--name", "words")
    lab = DockerLab(tmp_path, docker={**images(engine), "images": [built["tag"]]})
    source = "import cowsay, labwords, sys; print(labwords.WORD, sys.prefix)"
    run = lab.submit(
        [cell(source), end()],
        '[sandbox]\nimage = "words"\npython_packages = ["cowsay==6.1", "labwords"]\n',
    )
    status = run.over()
    assert status.state == "done", (status.reason, run.log())
    assert run.plan.to_install == ("cowsay==6.1",), "the lab's own stays as it is"
    assert "of the lab /venv" in run.results()[0]
    assert {"labwords==1.0", "cowsay==6.1"} <= set(status.run.packages)
    lab.close()


def test_what_is_built_is_not_built_again(engine: DockerClient) -> None:
    runner("build", "--base", ON)
    found = objects("build", "--base", ON)
    assert {image["name"]: image["seconds"] for image in found} == {
        "agent": None,
        "base": None,
        "client": None,
    }
    listed = {image["tag"]: image["current"] for image in objects("list")}
    assert all(listed[image["tag"]] for image in found)
    (base,) = (image for image in found if image["name"] == "base")
    entry = next(item for item in local.catalogue(engine) if item.id == base["id"])
    assert entry.image.image == base["tag"]
    assert "numpy" in {package.partition("==")[0] for package in entry.image.packages}
    assert base["bytes"] <= 10**9
    agents = {agent.tag for agent in local.agents(engine)}
    assert agents & {image["tag"] for image in found}
    said = runner("push", "localhost:1", base["tag"], status=2)
    assert "the chart needs the agent's image" in said


def test_an_image_has_what_is_added(engine: DockerClient, on: Base) -> None:
    context = small(
        *("USER root", "COPY system.txt /", "RUN apt-get update"),
        "RUN xargs --arg-file /system.txt apt-get install --yes --no-install-recommends",
    ).adding(["bc"])
    image = build(engine, context, on, lambda _: None)
    assert image.labels.added == ("bc",)
    assert image.labels.system_packages == ("bc",)
    assert ask(engine, image.tag, ["bc", "--version"]).text.startswith("bc ")
    with pytest.raises(UsageError, match="Unable to locate package no-such-package"):
        build(engine, context.adding(["no-such-package"]), on, lambda _: None)


def test_labels_say_what_a_python_has(engine: DockerClient, on: Base) -> None:
    context = small("ENV CUDA_VERSION=13.0", facts=Facts("sandbox", "/usr/bin/python3"))
    image = build(engine, context, on, lambda _: None, revision="c" * 40)
    said = engine.images.get(image.tag).labels
    assert said["runner.python"] == "/usr/bin/python3"
    assert said["runner.python-version"].startswith("3.")
    assert said["runner.role"] == "sandbox"
    assert said["runner.gpu"] == "true"
    assert said["org.opencontainers.image.revision"] == "c" * 40
    with pytest.raises(UsageError, match=r"not built by `runner images build`") as caught:
        local.inspect(engine, ON)
    assert f"images build lab --base {ON}" in caught.value.hint
    assert local.inspect(engine, "localhost/not-there:1") is None


def test_a_failing_step_is_told_with_its_last_lines(engine: DockerClient, on: Base) -> None:
    context = small("RUN echo first && echo 'what went wrong' >&2 && exit 7")
    with pytest.raises(InfrastructureError) as caught:
        build(engine, context, on, lambda _: None)
    assert find(engine, context, on) is None
    assert "building small: step 3 of " in caught.value.message
    assert "non-zero code: 7" in caught.value.message
    assert "| what went wrong" in caught.value.message


def test_proxies_and_cas_of_the_build_leave_no_trace(
    engine: DockerClient, on: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "ca.crt"
    bundle.write_text("OUR OWN CA\n")
    network = Network(ca_bundle=bundle, http_proxy="http://user:word@proxy.example:80")
    network = network.over({"https_proxy": "http://user:word@proxy.example:3128"})
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:word@mirror.example/simple")
    context = small(
        *(
            "USER root",
            "ARG PIP_INDEX_URL",
            "ARG CA_BUNDLE",
            "ENV PIP_CERT=${CA_BUNDLE:-$PIP_CERT}",
        ),
        "COPY ca.crt* /opt/images/",
        f"ENV ONCE={secrets.token_hex(8)}",  # else the engine has it in its cache
        'RUN echo "$PIP_INDEX_URL $https_proxy $HTTP_PROXY" && cat "$PIP_CERT" && touch /done',
        *("FROM ${BASE}", "COPY --from=0 /done /done"),
    )
    lines: list[str] = []
    image = build(engine, context, on, lambda now: lines.append(now.line), network=network)
    try:
        kept = json.dumps([engine.api.history(image.tag), engine.images.get(image.tag).attrs])
    finally:
        engine.images.remove(image.tag)
    proxies = "http://user:word@proxy.example:3128 http://user:word@proxy.example:80"
    assert f"https://user:word@mirror.example/simple {proxies}" in lines
    assert "OUR OWN CA" in lines
    for trace in ("word@", "proxy.example", "mirror.example", "CA_BUNDLE", "ca.crt"):
        assert trace not in kept, trace


def test_what_is_interrupted_leaves_no_image_and_no_container(engine: DockerClient) -> None:
    base = made(engine, "interrupted", f"ENV ONCE={secrets.token_hex(8)}")
    on = find_base(engine, base, print)

    def containers() -> list[str]:
        return [item["Id"] for item in engine.api.containers(all=True, filters={"ancestor": base})]

    command = [sys.executable, "-m", "runner", "images", "build", "agent", "--base", base]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=HEEDS) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "RUN" in line)
        until(containers, what="the step's container", deadline_s=60)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert "error: interrupted" in rest
    until(lambda: not containers(), what="the end of the step's container", deadline_s=60)
    assert find(engine, read(["agent"])[0], on) is None
    engine.images.remove(base)


OLD = r"""
RUN printf '#!/bin/sh\nexec /usr/bin/python3 -c "import sys; sys.version_info = (3, 9, 2); \
exec(sys.argv[2])" "$@"\n' > /usr/local/bin/python3 && chmod +x /usr/local/bin/python3
"""


@pytest.mark.parametrize(
    ("name", "instructions", "image", "words", "hint"),
    [
        ("old", OLD, "base", "python3 is 3.9.2, and the runner needs 3.11", "first on its PATH"),
        ("old", OLD, "lab", "python3 is 3.9.2, and the runner needs 3.11", "first on its PATH"),
        ("no-apt", "RUN rm /usr/bin/apt-get", "lab", "has no apt-get, it is debian", "Ubuntu"),
        ("no-python", "RUN rm /usr/bin/python3", "lab", "no python3 on its PATH", "ENV PATH="),
        (
            "rooted",
            f"RUN chmod 700 {HOME} && python3 -m venv {HOME}/lab\nENV PATH={HOME}/lab/bin:$PATH",
            "lab",
            f"uid 1000, which cannot use {HOME}/lab/bin/python3",
            "outside of /root",
        ),
        (
            "no-venv",
            "RUN rm -r /usr/lib/python3.11/ensurepip",
            "lab",
            "has no ensurepip",
            "--add python3-venv",
        ),
    ],
    ids=["old", "old-lab", "no-apt", "no-python", "rooted", "no-venv"],
)
def test_a_base_that_cannot_do_is_refused_at_once(
    engine: DockerClient, name: str, instructions: str, image: str, words: str, hint: str
) -> None:
    found = probe(engine, made(engine, name, f"USER root\n{instructions}"))
    (context,) = read([image])
    with pytest.raises(UsageError, match="cannot be used") as caught:
        check(context, found)
    assert words in caught.value.message
    assert hint in caught.value.hint


def test_a_base_without_a_shell_is_refused(engine: DockerClient) -> None:
    tag = made(engine, "empty", "ENV A=1\nLABEL empty=true", "scratch")
    with pytest.raises(UsageError, match="does not run a shell here"):
        probe(engine, tag)


def test_a_base_that_is_nowhere_is_refused() -> None:
    said = runner("build", "agent", "--base", "localhost:1/nothing:1", status=2)
    assert "the base image localhost:1/nothing:1 is not here and cannot be pulled" in said
    assert "docker login" in said
    said = runner("build", "agent", "--base", "No Image", status=2)
    assert "is no name of an image" in said


def test_the_plain_base_will_do(engine: DockerClient) -> None:
    found = probe(engine, ON)
    assert found.packages == ()
    for context in read():
        check(context, found)
