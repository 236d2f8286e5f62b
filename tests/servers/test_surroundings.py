"""Where a kernel runs, by the environment and files of each place, and what it is told where no server is."""

from __future__ import annotations

import pytest

from mamba_nb.servers.surroundings import Surroundings, advice, surroundings

# WSL 2: eth0's default gateway 172.22.16.1 in little-endian hexadecimals.
ROUTE = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t011016AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t001016AC\t00000000\t0001\t0\t0\t0\t00F0FFFF\t0\t0\t0
"""
WSL_VERSION = "Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1) #1 SMP"
LINUX = "Linux version 6.8.0-45-generic (buildd@lcy02) #45-Ubuntu SMP"


def there(files: dict[str, str] | None = None):
    return (files or {}).get


@pytest.mark.parametrize(
    ("environ", "files", "name", "host"),
    [
        ({}, {}, "plain", None),
        ({}, {"/proc/version": LINUX, "/proc/1/cgroup": "0::/init.scope\n"}, "plain", None),
        ({}, {"/.dockerenv": ""}, "docker", "host.docker.internal"),
        ({}, {"/run/.containerenv": ""}, "docker", "host.docker.internal"),
        ({}, {"/proc/1/cgroup": "12:cpu:/docker/4f5e1a"}, "docker", "host.docker.internal"),
        ({}, {"/proc/version": WSL_VERSION, "/proc/net/route": ROUTE}, "wsl", "172.22.16.1"),
        ({"WSL_DISTRO_NAME": "Ubuntu"}, {}, "wsl", None),
        ({"WSL_DISTRO_NAME": "Ubuntu"}, {"/.dockerenv": ""}, "docker", "host.docker.internal"),
        ({"JUPYTERHUB_API_URL": "http://hub:8081/hub/api"}, {"/.dockerenv": ""}, "jupyterhub", None),
        ({"BINDER_SERVICE_HOST": "10.0.0.1", "JUPYTERHUB_USER": "x"}, {"/.dockerenv": ""}, "binder", None),
        ({"COLAB_RELEASE_TAG": "release-colab"}, {"/.dockerenv": ""}, "colab", None),
        ({"KAGGLE_KERNEL_RUN_TYPE": "Interactive"}, {}, "kaggle", None),
        ({"CODESPACES": "true"}, {"/.dockerenv": ""}, "codespaces", None),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {"/.dockerenv": ""}, "kubernetes", None),
        ({"CODESPACES": ""}, {}, "plain", None),
    ],
)
def test_where_a_kernel_runs(environ, files, name, host):
    assert surroundings(environ, there(files)) == Surroundings(name=name, host=host)


@pytest.mark.parametrize("route", ["", "nonsense", "Iface\nx 00000000 zz", "Iface\neth0 00000000 FFFFFFFFFFFFFF 0"])
def test_a_routing_table_that_cannot_be_read_gives_no_host(route):
    where = surroundings({"WSL_DISTRO_NAME": "Ubuntu"}, there({"/proc/net/route": route}))
    assert where == Surroundings(name="wsl", host=None)


def test_this_machines_own_files_are_read_without_an_error():
    assert surroundings({}).name in ("plain", "docker", "wsl")


class TestAdvice:
    def test_in_a_container_it_says_what_localhost_is_and_what_to_type(self):
        text = " ".join(advice(Surroundings(name="docker", host="host.docker.internal")))
        assert '"localhost" is the container itself' in text
        assert "find_servers(hosts=['host.docker.internal'])" in text
        assert "OLLAMA_HOST=0.0.0.0" in text

    def test_in_wsl_it_names_the_windows_hosts_address(self):
        text = " ".join(advice(Surroundings(name="wsl", host="172.22.16.1")))
        assert "find_servers(hosts=['172.22.16.1'])" in text and "mirrored" in text

    @pytest.mark.parametrize("name", ["colab", "kaggle", "binder", "jupyterhub", "codespaces", "kubernetes"])
    def test_on_a_hub_it_says_that_localhost_is_not_the_users_computer(self, name):
        text = " ".join(advice(Surroundings(name=name)))
        assert '"localhost" is that machine, not your own computer' in text
        assert "embedded" in text

    def test_on_a_plain_machine_it_says_how_to_start_each_server(self):
        text = " ".join(advice(Surroundings(name="plain")))
        for words in ("ollama serve", "lms server start", "vllm serve MODEL", "llama-server -m", "embedded"):
            assert words in text
