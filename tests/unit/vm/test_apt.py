# SPDX-License-Identifier: MIT
"""Reading the host's apt sources in both formats, and the private configuration made from them."""

import subprocess
from pathlib import Path

import pytest

from vm import apt
from vm.apt import Package, host_release, parse_print_uris, private_configuration
from vm.apt_sources import (
    AptSource,
    main_archive,
    parse_deb822,
    parse_one_line,
    read_host_sources,
)
from vm.errors import SetupError

DEB822 = """\
# the distribution
Types: deb deb-src
URIs: https://mirror.test/debian
Suites: bookworm bookworm-updates
# a comment inside a stanza
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://disabled.test/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: https://sources.test/debian
Suites: bookworm
Components: main

Types: deb
URIs: https://one.test/x https://two.test/x
Suites: nodistro
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----
"""


def test_deb822_keeps_enabled_binary_entries_only() -> None:
    sources = parse_deb822(DEB822)
    assert [source.uri for source in sources] == [
        "https://mirror.test/debian",
        "https://one.test/x",
        "https://two.test/x",
    ]
    assert sources[0].suites == ("bookworm", "bookworm-updates")
    assert sources[0].components == ("main", "contrib")
    assert sources[0].signed_by == "/usr/share/keyrings/debian-archive-keyring.gpg"


def test_deb822_key_block_keeps_its_lines() -> None:
    assert parse_deb822(DEB822)[1].signed_by.splitlines() == [
        "-----BEGIN PGP PUBLIC KEY BLOCK-----",
        "",
        "mQINBF",
        "-----END PGP PUBLIC KEY BLOCK-----",
    ]


def test_one_line_entries_with_and_without_options() -> None:
    text = """
    # deb https://comment.test/debian bookworm main
    deb https://plain.test/debian bookworm main contrib   # trailing words
    deb [ arch=amd64 signed-by=/k.gpg trusted=yes ] https://options.test/debian trixie main
    deb-src https://source.test/debian bookworm main
    deb https://broken.test
    """
    assert parse_one_line(text) == [
        AptSource("https://plain.test/debian", ("bookworm",), ("main", "contrib")),
        AptSource("https://options.test/debian", ("trixie",), ("main",), "/k.gpg", trusted=True),
    ]


def test_third_party_entries_are_never_taken_for_the_archive() -> None:
    others = [
        AptSource("https://docker.test/linux/debian", ("bookworm",), ("stable",), "/docker.asc"),
        AptSource("https://node.test", ("nodistro",), ("main",), "/node.gpg"),
        AptSource("https://pg.test", ("bookworm-pgdg",), ("main",), "/pg.gpg"),
        AptSource("https://impostor.test", ("bookworm",), ("main",), "/impostor.gpg"),
    ]
    debian = AptSource("https://debian.test", ("bookworm", "bookworm-updates"), ("main",))
    signed = AptSource("https://s.test", ("stable",), ("main",), "/x/debian-archive-keyring.gpg")
    assert main_archive([*others, debian], "bookworm") is debian
    assert main_archive([*others, debian, signed], "bookworm") is signed
    with pytest.raises(SetupError, match="QEMU="):
        main_archive(others[:3], "bookworm")


def test_host_files_of_both_formats_are_read_and_others_left(tmp_path: Path) -> None:
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (tmp_path / "sources.list").write_text("deb https://a.test/debian bookworm main\n")
    (folder / "b.sources").write_text(DEB822)
    (folder / "c.list.disabled").write_text("deb https://c.test/debian bookworm main\n")
    assert [source.uri for source in read_host_sources(tmp_path)][:2] == [
        "https://a.test/debian",
        "https://mirror.test/debian",
    ]
    assert not any("c.test" in source.uri for source in read_host_sources(tmp_path))


def test_print_uris_lines_become_packages_with_epochs_decoded() -> None:
    text = (
        "Reading package lists...\n"
        "'http://m.test/q/qemu.deb' qemu-system-x86_1%3a11.1+ds-1~bpo_amd64.deb 10377056 \n"
        "'http://m.test/l.deb' libx_2.0_all.deb 7 SHA256:abc\n"
    )
    assert parse_print_uris(text) == [
        Package("qemu-system-x86", "1:11.1+ds-1~bpo", 10377056),
        Package("libx", "2.0", 7),
    ]


def test_private_configuration_never_names_the_hosts_package_state(tmp_path: Path) -> None:
    text = private_configuration(tmp_path, ['Acquire::http::Proxy "http://p.test:1";'])
    values = dict(line.rstrip(";").split(" ", 1) for line in text.splitlines())
    assert values["Dir::State::status"] == f'"{tmp_path}/status"'
    assert values["APT::Sandbox::User"] == '""'
    assert values["Acquire::http::Proxy"] == '"http://p.test:1"'
    assert "/var/lib" not in text
    assert "/var/cache" not in text


def test_missing_apt_is_named_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(apt.shutil, "which", lambda _name: None)
    monkeypatch.setattr(apt.platform, "machine", lambda: "x86_64")
    with pytest.raises(SetupError, match=r"no apt-get.*QEMU=.*KERNEL=.*KDIR="):
        apt.PrivateApt(tmp_path, "trixie", print)


def test_foreign_architecture_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(apt.platform, "machine", lambda: "aarch64")
    with pytest.raises(SetupError, match="aarch64"):
        apt.PrivateApt(tmp_path, "trixie", print)


def test_failing_apt_is_told_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 100, "", "E: Could not resolve 'm.test'\n")

    monkeypatch.setattr(apt.subprocess, "run", fail)
    with pytest.raises(SetupError, match=r"Could not resolve 'm\.test'"):
        apt._run(["apt-get", "update"], tmp_path / "apt.conf")


def test_release_is_read_from_os_release(tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text('ID=debian\nVERSION_CODENAME="trixie"\n')
    assert host_release(path) == ("debian", "trixie")
    assert host_release(tmp_path / "absent") == ("", "")
