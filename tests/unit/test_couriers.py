"""Messages that leave the process: their signatures, and what is made of a receiver's answer."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator

import pytest
from receivers import Posted, mail_server, web_server

from mesh.adapters.system import SystemClock
from mesh.errors import SettingsInvalid
from mesh.notifier.couriers import Couriers, MailServer, Undelivered, header_id, secret_key
from mesh.notifier.messages import Message

SECRETS = ["whsec_" + base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2)]
MESSAGE = Message("pay:k/r/review/asked/1/ana", {"type": "mesh.approval.asked", "data": {}}, "Pay <5>?", "Pay?\nNow.")


@pytest.fixture
async def couriers() -> AsyncIterator[Couriers]:
    made = Couriers(SystemClock(), keys=[secret_key(one) for one in SECRETS])
    yield made
    await made.close()


async def test_a_webhook_is_signed_with_each_secret_as_the_standard_says(couriers: Couriers) -> None:
    async with web_server() as server:
        await couriers.deliver("webhook", f"{server.url}/hook?a=1", MESSAGE)
    [posted] = server.taken
    assert posted.path == "/hook?a=1"
    assert json.loads(posted.body) == MESSAGE.body
    assert posted.headers["webhook-id"] == MESSAGE.id
    signed = f"{posted.headers['webhook-id']}.{posted.headers['webhook-timestamp']}.".encode() + posted.body
    wanted = []
    for secret in SECRETS:
        key = base64.b64decode(secret.split("_", 1)[1])
        wanted.append("v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode())
    assert posted.headers["webhook-signature"].split(" ") == wanted


async def test_without_a_secret_a_webhook_has_no_signature() -> None:
    couriers = Couriers(SystemClock())
    async with web_server() as server:
        await couriers.deliver("webhook", server.url, MESSAGE)
    await couriers.close()
    assert "webhook-signature" not in server.taken[0].headers


async def test_slack_gets_text_that_names_nobody_and_links_nowhere(couriers: Couriers) -> None:
    async with web_server() as server:
        await couriers.deliver("slack", server.url, MESSAGE)
    assert json.loads(server.taken[0].body) == {"text": "Pay &lt;5&gt;?\nPay?\nNow."}
    assert "webhook-signature" not in server.taken[0].headers


@pytest.mark.parametrize(("status", "is_final"), [(500, False), (404, False), (302, False), (410, True)])
async def test_any_other_answer_is_no_delivery_and_410_is_final(
    status: int, is_final: bool, couriers: Couriers
) -> None:
    def answer(_: Posted) -> int:
        return status

    async with web_server(answer) as server:
        with pytest.raises(Undelivered, match=str(status)) as raised:
            await couriers.deliver("webhook", server.url, MESSAGE)
    assert raised.value.is_final is is_final
    assert server.url not in str(raised.value)


async def test_a_receiver_that_is_not_there_is_tried_again_and_its_address_is_not_told(couriers: Couriers) -> None:
    async with web_server() as server:
        gone = server.url
    for kind, address in (("webhook", gone), ("slack", "http://no.invalid/secret")):
        with pytest.raises(Undelivered) as raised:
            await couriers.deliver(kind, address, MESSAGE)  # type: ignore[arg-type]
        assert not raised.value.is_final
        assert "secret" not in str(raised.value)
        assert gone not in str(raised.value)


async def test_mail_has_a_message_id_of_its_own_and_the_same_for_a_repeat() -> None:
    async with mail_server("nobody@") as server:
        mail = MailServer(host="127.0.0.1", port=server.port, security="none", sender="mesh@example.org")
        couriers = Couriers(SystemClock(), mail=mail)
        for message in (MESSAGE, MESSAGE, MESSAGE._replace(id="another")):
            await couriers.deliver("email", "ana@example.org", message)
        with pytest.raises(Undelivered, match="550") as raised:
            await couriers.deliver("email", "nobody@example.org", MESSAGE)
        await couriers.close()
    assert raised.value.is_final
    ids = [one["Message-ID"] for one in server.taken]
    assert ids[0] == ids[1] != ids[2]
    first = server.taken[0]
    assert (first["To"], first["From"], first["Subject"]) == ("ana@example.org", "mesh@example.org", "Pay <5>?")
    assert "Now." in first.get_payload()


async def test_without_a_mail_server_mail_is_final_and_says_what_to_set(couriers: Couriers) -> None:
    with pytest.raises(Undelivered, match="MESH_SMTP_HOST") as raised:
        await couriers.deliver("email", "ana@example.org", MESSAGE)
    assert raised.value.is_final


@pytest.mark.parametrize("text", ["", "abc", "whsec_", "whsec_abc", "whsec_" + "A" * 8, SECRETS[0][6:]])
def test_a_secret_that_is_none_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(SettingsInvalid) as raised:
        secret_key(text)
    assert len(text) < 10 or text not in str(raised.value)


def test_an_id_of_any_text_is_a_header() -> None:
    assert header_id("pay:ä k/r/s/asked/1/a%") == "pay:%C3%A4%20k/r/s/asked/1/a%25"
    assert header_id("\ud800\n").isascii()
