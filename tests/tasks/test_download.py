"""The download from mirrors and other web servers: every way in which one misbehaves, retries, and reuse."""

import errno
import gzip
import socket
import threading

import pytest
from prefect.states import Failed

from dcgan.data.idx import TRAIN, read_idx_folder
from dcgan.errors import ConfigurationError, DataError, NetworkError
from tasks.download import RECORD_NAME, download, is_transient, obtain
from tasks.settings import Settings
from tasks.sources import BUNDLED, AbsentError, Limits
from tests.downloads import check_mnist, left_behind, warnings
from tests.faults.web import FAULTS, FIRST, NAMES, errno_text, limits_of


def test_the_task_brings_the_bundled_mnist_under_the_state_folder(state):
    """Through the task's own function, without Prefect: four files, checked, in the state folder."""
    idx = download.fn("bundled", Settings(DCGAN_STATE=state))
    check_mnist(idx, "bundled", state / "data" / "downloads" / "bundled")
    assert sorted(path.name for path in idx.folder.iterdir()) == sorted([*NAMES, RECORD_NAME])


def test_the_first_mirror_that_serves_mnist_is_used(web, mnist_folder, downloads, log):
    """The first mirror has nothing, so the second one is used, and the third is not asked."""
    second = web.serve("/second", mnist_folder)
    idx = obtain("auto", downloads, (f"{web.address}/first", second, f"{web.address}/third"))
    check_mnist(idx, second, downloads / "auto")
    dotted = FIRST.replace("-idx", ".idx")
    asked = [f"/first/{name}" for name in (FIRST, FIRST[:-3], dotted, dotted[:-3])]
    assert web.asked == [*asked, *(f"/second/{name}" for name in NAMES)]
    assert warnings(log) == []


def test_sources_with_an_at_sign_are_different_ones(web, small_folder, mnist_folder, downloads):
    """What follows @ in a path is no server's name, as it would be after a password."""
    first, second = web.serve("/first@v1", small_folder), web.serve("/second@v1", mnist_folder)
    one, other = obtain(first, downloads), obtain(second, downloads)
    assert (one.source, other.source) == (first, second)
    assert one.digest != other.digest


def test_without_network_the_bundled_copy_is_used_and_one_line_says_so(nobody, downloads, log):
    """Mirrors that cannot be reached are asked once each; one line says why the bundled copy is used."""
    check_mnist(obtain("auto", downloads, (f"{nobody}/a", f"{nobody}/b")), "bundled", downloads / "auto")
    refused = f"{FIRST}: the connection failed: {errno_text(errno.ECONNREFUSED)}"
    reasons = "; ".join(f"{nobody}/{mirror}/{refused}" for mirror in "ab")
    assert warnings(log) == [f"No mirror served MNIST, so the bundled copy in {BUNDLED} is used ({reasons})."]


def test_a_name_server_that_does_not_answer_costs_seconds(downloads, log, monkeypatch):
    """Where the look-up of a name hangs, as behind a firewall that drops packets, the limit still holds."""
    released = threading.Event()
    looked_up = []

    def hang(host: bytes, *_args: object, **_named: object) -> list[object]:
        looked_up.append(host.decode())
        released.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    check_mnist(
        obtain("auto", downloads, ("http://mirror.test/x",), Limits(answer_seconds=0.5)), "bundled", downloads / "auto"
    )
    released.set()
    assert looked_up == ["mirror.test"]
    assert f"(http://mirror.test/x/{FIRST}: no answer within 0.5 seconds)." in warnings(log)[0]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_url_that_misbehaves_is_named_and_leaves_nothing(fault, web, small_folder, downloads):
    """Each fault gives its own kind of error, so that only what may pass is tried again, and no file stays."""
    source = web.serve("/x", small_folder)
    answer, kind, sentence = FAULTS[fault]
    for name in (FIRST, FIRST[:-3]):
        web.answer(f"/x/{name}", answer(web, (small_folder / FIRST).read_bytes()))
    with pytest.raises(DataError) as caught:
        obtain(source, downloads, limits=limits_of(fault))
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"{source}{sentence}")
    assert f"/x/{FIRST}" in web.asked
    assert left_behind(downloads) == []


@pytest.mark.parametrize("fault", ["404", "html", "nothing at all"])
def test_mirrors_that_misbehave_lead_to_the_bundled_copy(fault, web, mnist_folder, downloads, log):
    """Whatever a mirror does, MNIST is had, and one line says what the mirror did."""
    mirror = web.serve("/x", mnist_folder)
    answer, _, sentence = FAULTS[fault]
    web.answer(f"/x/{FIRST}", answer(web, b""))
    check_mnist(obtain("auto", downloads, (mirror,), limits_of(fault)), "bundled", downloads / "auto")
    (line,) = warnings(log)
    assert line.startswith(f"No mirror served MNIST, so the bundled copy in {BUNDLED} is used ({mirror}{sentence[:-1]}")
    assert left_behind(downloads) == ["auto"]


def test_a_mirror_that_serves_other_digits_is_not_believed(web, small_folder, downloads, log):
    """Well-formed files that are not MNIST's are refused by their digest."""
    mirror = web.serve("/x", small_folder)
    check_mnist(obtain("auto", downloads, (mirror,)), "bundled", downloads / "auto")
    small = read_idx_folder(small_folder, "x").train.images.sha256
    reason = f"{mirror}/{FIRST}: has the SHA-256 {small}; expected {TRAIN.images.sha256}"
    assert warnings(log) == [f"No mirror served MNIST, so the bundled copy in {BUNDLED} is used ({reason})."]


def test_redirects_lead_to_the_file(web, small_folder, small_digest, downloads):
    """A few redirections, as mirrors have them, are followed."""
    source = web.serve("/x", small_folder)
    web.answer(f"/moved/{FIRST}", web.redirect(f"/again/{FIRST}"))
    web.answer(f"/again/{FIRST}", web.redirect(f"{source}/{FIRST}"))
    for name in NAMES[1:]:
        web.answer(f"/moved/{name}", web.redirect(f"/x/{name}"))
    assert obtain(f"{web.address}/moved", downloads).digest == small_digest


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_url_of_another_data_set_is_recorded_and_used_again_without_network(ending, web, small_folder, downloads):
    """Its digest is its own, and a second download asks nobody."""
    source = web.serve("/x", small_folder) + ending
    first = obtain(source, downloads)
    assert [(file.name, file.sha256) for file in first.files] == [
        (file.name, file.sha256) for file in read_idx_folder(small_folder, "x").files
    ]
    assert first.source == source.rstrip("/")
    asked = len(web.asked)
    assert obtain(source, downloads) == first
    assert (asked, len(web.asked)) == (4, 4)


def test_files_that_are_not_gzipped_are_found_under_their_plain_names(
    web, small_folder, small_digest, downloads, tmp_path
):
    """A prefix may hold the raw files, and a name may lie about gzip."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in NAMES:
        (folder / name[:-3]).write_bytes(gzip.decompress((small_folder / name).read_bytes()))
    (folder / FIRST[:-3]).rename(folder / FIRST)
    idx = obtain(web.serve("/x", folder), downloads)
    assert (idx.digest, idx.train.images.name, idx.train.labels.name) == (small_digest, FIRST, NAMES[1][:-3])


def test_500_then_200_is_worth_another_try(web, small_folder, small_digest, downloads):
    """The first try fails in a way that the task retries, and the second one succeeds."""
    source = web.serve("/x", small_folder)
    good = (small_folder / FIRST).read_bytes()
    web.answer(f"/x/{FIRST}", web.respond(b"", "500 Oops"), web.respond(good))
    with pytest.raises(NetworkError) as caught:
        obtain(source, downloads)
    assert is_transient(download, None, Failed(data=caught.value))
    assert obtain(source, downloads).digest == small_digest


@pytest.mark.parametrize("error", [DataError("x"), AbsentError("x"), ConfigurationError("x"), ValueError("x")])
def test_what_stays_wrong_is_not_tried_again(error):
    """A missing file, wrong contents and wrong arguments fail at once."""
    assert not is_transient(download, None, Failed(data=error))


def test_the_task_retries_with_growing_delays_and_jitter():
    """Three more tries after 2, 4 and 8 seconds, give or take, under Prefect."""
    assert (download.retries, download.retry_delay_seconds, download.retry_jitter_factor) == (3, [2, 4, 8], 0.5)
    assert download.retry_condition_fn is is_transient
