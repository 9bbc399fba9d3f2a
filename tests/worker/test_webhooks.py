"""Webhooks: signed, sent until they arrive, and to nowhere inside."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import certifi
import pytest
import trustme
from sqlalchemy import select, update

from core.ledger import tallies, webhooks
from core.ledger.jobs import owner
from core.ledger.tables import DEFAULT_TENANT, Delivery, Job, Tenant
from core.ledger.webhooks import Letter
from tests.worker.conftest import House
from worker import webhooks as sender
from worker.relay import Relay
from worker.webhooks import RefusedError, post, sign


class Receiver:
    """A server that answers in turn (the last answer for ever) and remembers what it got."""

    def __init__(self, certificate: trustme.LeafCert | None = None) -> None:
        self.answers = [200]
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0])
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def relay(house: House) -> Relay:
    return Relay(house.database, house.settings.model_copy(update={"webhook_allow_private": True}))


def ended_job(house: House, url: str) -> str:
    job_id = house.new_job(webhook={"url": url})
    house.cancel(job_id)
    return job_id


def deliver(relay: Relay) -> None:
    """Send what is due, and wait for it."""
    while True:
        relay.deliver()
        if not relay._posting:
            return
        for posting in relay._posting:
            posting.result(20)


def waiting(house: House) -> list[Delivery]:
    with house.database.read() as session:
        return list(session.scalars(select(Delivery).where(Delivery.due_at.is_not(None))))


def make_due(house: House) -> None:
    with house.database.begin() as session:
        session.execute(update(Delivery).where(Delivery.due_at.is_not(None)).values(due_at=1))


def test_a_message_says_how_the_job_ended_and_is_signed(house: House, relay: Relay, receiver: Receiver) -> None:
    job_id = ended_job(house, f"http://127.0.0.1:{receiver.port}/hook?x=1")
    house.cancel(house.new_job())  # without a webhook
    (message,) = waiting(house)
    deliver(relay)
    ((headers, body),) = receiver.got
    secret = house.job(job_id).webhook_secret
    assert secret is not None and headers["webhook-id"] == message.id
    assert headers["webhook-signature"] == sign(secret, message.id, int(headers["webhook-timestamp"]), body)
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    told = json.loads(body)
    assert (told["type"], told["data"]["id"], told["data"]["href"]) == ("job.cancelled", job_id, f"/v1/jobs/{job_id}")
    assert waiting(house) == []
    with house.database.read() as session:
        assert tallies.totals(session, "webhook") == {"delivered": (1, 0.0)}


def test_the_signature_is_that_of_standard_webhooks() -> None:
    body = b'{"event_type":"ping","data":{"success":true}}'
    signed = sign("whsec_plJ3nmyCDGBKInavdOK15jsl", "msg_loFOjxBNrRLzqYUf", 1731705121, body)
    assert signed == "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="


def test_a_receiver_that_fails_is_tried_again_under_the_same_id(house: House, relay: Relay, receiver: Receiver) -> None:
    receiver.answers = [500, 302, 200]
    ended_job(house, f"http://127.0.0.1:{receiver.port}/")
    for tries in (1, 2):
        deliver(relay)
        deliver(relay)  # not due yet
        (message,) = waiting(house)
        assert (message.tries, len(receiver.got)) == (tries, tries)
        make_due(house)
    deliver(relay)
    assert waiting(house) == []
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1


def test_a_relay_that_thaws_does_not_take_back_what_another_delivered(
    house: House, relay: Relay, receiver: Receiver
) -> None:
    job_id = ended_job(house, f"http://127.0.0.1:{receiver.port}/")
    with house.database.begin() as session:
        (letter,) = webhooks.take(session, 4)  # and the relay that took it stands still
    make_due(house)
    deliver(relay)
    with house.database.begin() as session:
        assert not webhooks.failed(session, letter.id)
        webhooks.delivered(session, letter.id, 200)
        assert tallies.totals(session, "webhook") == {"delivered": (1, 0.0)}
        news = webhooks.latest(session, [job_id])[job_id]
    assert (news.tries, news.status, news.due_at) == (1, 200, None)


def test_how_a_message_fares_is_seen_with_the_job(house: House, relay: Relay, receiver: Receiver) -> None:
    receiver.answers = [500, 200]
    job_id = ended_job(house, f"http://127.0.0.1:{receiver.port}/")

    def seen() -> tuple[Delivery, int]:
        with house.database.read() as session:
            return webhooks.latest(session, [job_id])[job_id], house.job(job_id).version

    before, version = seen()
    assert (before.tries, before.status, before.tried_at) == (0, None, None)
    deliver(relay)
    failed, later = seen()
    assert (failed.tries, failed.status) == (1, 500) and later > version
    assert failed.tried_at is not None and failed.due_at == failed.tried_at + 1000 * webhooks.RETRY_AFTER_S[0]
    make_due(house)
    deliver(relay)
    arrived, last = seen()
    assert (arrived.tries, arrived.status, arrived.due_at) == (2, 200, None) and last > later


def test_it_is_given_up_when_the_receiver_says_so_or_after_the_last_try(
    house: House, relay: Relay, receiver: Receiver
) -> None:
    receiver.answers = [410]
    ended_job(house, f"http://127.0.0.1:{receiver.port}/")
    deliver(relay)
    assert waiting(house) == [] and len(receiver.got) == 1
    receiver.answers = [503]
    ended_job(house, f"http://127.0.0.1:{receiver.port}/")
    for _ in range(len(webhooks.RETRY_AFTER_S) + 1):
        assert len(waiting(house)) == 1
        make_due(house)
        deliver(relay)
    assert waiting(house) == []
    with house.database.read() as session:
        assert tallies.totals(session, "webhook") == {"given_up": (2, 0.0)}


def test_nobody_listening_harms_nobody(house: House, relay: Relay, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        ended_job(house, f"http://127.0.0.1:{unused.getsockname()[1]}/")
        deliver(relay)
    (message,) = waiting(house)
    assert message.tries == 1 and f"webhook {message.id}: ConnectError" in caplog.text


def test_the_log_does_not_name_a_receiver(house: House, caplog: pytest.LogCaptureFixture) -> None:
    ended_job(house, "https://localhost/")
    deliver(Relay(house.database, house.settings))
    assert "its host is not on the public internet" in caplog.text and "localhost" not in caplog.text


class Dripping:
    """A server that sends a byte of its answer now and then, until it is `dry`."""

    def __init__(self) -> None:
        self.server, self.dry = socket.create_server(("127.0.0.1", 0)), threading.Event()
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def drip(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.dry.wait(0.05):
                connection.sendall(b"x")

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.drip, args=(self.server.accept()[0],), daemon=True).start()


@pytest.fixture
def dripping() -> Iterator[Dripping]:
    server = Dripping()
    yield server
    server.dry.set()
    server.server.close()


def test_a_receiver_that_drips_is_cut_off(dripping: Dripping, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sender.CALL_S < webhooks.HOLD_S
    monkeypatch.setattr(sender, "CALL_S", 0.5)
    with pytest.raises(RefusedError, match="took longer"):
        post(letter(f"http://127.0.0.1:{dripping.port}/"), allow_private=True)


def test_a_slow_receiver_holds_one_sender_and_no_other_tenant(
    house: House, relay: Relay, receiver: Receiver, dripping: Dripping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "CALL_S", 600.0)
    slow = [ended_job(house, f"http://127.0.0.1:{dripping.port}/") for _ in range(6)]
    relay.deliver()
    other = ended_job(house, f"http://127.0.0.1:{receiver.port}/")
    with house.database.begin() as session:
        session.add(Tenant(id="tenant_other", name="other"))
        session.flush()
        session.execute(update(Job).where(Job.id == other).values(tenant_id="tenant_other"))
    relay.deliver()
    assert sorted(relay._posting.values()) == [DEFAULT_TENANT, "tenant_other"]
    house.wait(lambda: len(receiver.got) == 1)
    dripping.dry.set()
    for posting in relay._posting:
        posting.result(120)
    tries = {message.job_id: message.tries for message in waiting(house)}
    assert tries.keys() == set(slow) and sorted(tries.values()) == [0] * 5 + [1]


def test_a_message_that_cannot_be_sent_is_given_up(
    house: House, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    ended_job(house, "https://256.256.256.256/")
    deliver(relay)
    assert waiting(house) == [] and "is given up: its URL cannot be called" in caplog.text
    assert "256" not in caplog.text


def test_relays_at_once_send_a_message_once(house: House, relay: Relay, receiver: Receiver) -> None:
    for _ in range(3):
        ended_job(house, f"http://127.0.0.1:{receiver.port}/")
    relays = [relay, Relay(relay.database, relay.settings)]
    threads = [threading.Thread(target=deliver, args=(one,)) for one in relays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(receiver.got) == 3 and waiting(house) == []


def test_a_message_is_written_with_the_end_or_not_at_all(house: House) -> None:
    job_id = house.new_job(webhook={"url": "https://example.org/"})
    with pytest.raises(RuntimeError), house.database.begin() as session:
        owner.cancel(session, "tenant_default", job_id)
        raise RuntimeError
    assert waiting(house) == []
    house.cancel(job_id)
    assert len(waiting(house)) == 1
    with house.database.begin() as session:
        owner.retry(session, "tenant_default", job_id, 1)
    assert waiting(house) == []  # it was no end, and must not arrive after that
    house.cancel(job_id)
    assert len(waiting(house)) == 1
    with house.database.begin() as session:
        owner.remove(session, "tenant_default", job_id)
    assert waiting(house) == []


def letter(url: str) -> Letter:
    return Letter("msg_1", DEFAULT_TENANT, url, webhooks.new_secret(), {"type": "job.succeeded"})


Names = Callable[..., None]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Let names resolve to addresses: each time to the next ones."""
    real = socket.getaddrinfo

    def install(**addresses: list[list[str]]) -> None:
        table = {name.replace("_", "."): list(answers) for name, answers in addresses.items()}

        def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
            if host not in table:
                return real(host, port, *args, **kwargs)
            answers = table[host]
            here = answers.pop(0) if len(answers) > 1 else answers[0]
            return [entry for address in here for entry in real(address, port, type=socket.SOCK_STREAM)]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)

    return install


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"])
def test_a_name_that_leads_inside_is_refused(names: Names, address: str) -> None:
    names(inside_test=[[address]], mixed_test=[["93.184.215.14", address]])
    for host in ("inside.test", "mixed.test"):
        with pytest.raises(RefusedError, match="public internet"):
            post(letter(f"https://{host}/"), allow_private=False)


def test_the_address_that_was_checked_is_the_one_that_is_called(names: Names, receiver: Receiver) -> None:
    names(hooks_test=[["127.0.0.1"], ["192.0.2.1"]])  # a second look would lead elsewhere
    post(letter(f"http://hooks.test:{receiver.port}/"), allow_private=True)
    ((headers, _),) = receiver.got
    assert headers["host"] == f"hooks.test:{receiver.port}"


def test_tls_is_checked_against_the_name_and_not_the_address(
    names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setattr(certifi, "where", lambda: str(tmp_path / "authority.pem"))
    receiver = Receiver(authority.issue_cert("hooks.test"))
    names(hooks_test=[["127.0.0.1"]], other_test=[["127.0.0.1"]])
    post(letter(f"https://hooks.test:{receiver.port}/"), allow_private=True)
    with pytest.raises(Exception, match=r"CERTIFICATE_VERIFY_FAILED"):
        post(letter(f"https://other.test:{receiver.port}/"), allow_private=True)
    assert len(receiver.got) == 1
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:4700::1111", True),
        *((address, False) for address in ("0.0.0.0", "100.64.0.1", "192.168.0.1", "172.16.5.5", "224.0.0.1")),
        *(
            (address, False)
            for address in ("255.255.255.255", "fe80::1", "fec0::1", "ff02::1", "2002:a00:1::", "64:ff9b::a00:1")
        ),
    ],
)
def test_what_is_public(address: str, public: bool) -> None:
    assert webhooks.is_public(address) == public
