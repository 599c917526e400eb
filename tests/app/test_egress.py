import asyncio
import socket
import ssl
import time
from ipaddress import ip_address

import pytest

from app.egress import Egress, EgressError, check_url, is_public
from tests.receiver import HOST, URL, answer, authority

PUBLIC = "93.184.215.14"


def post(egress, url=URL, body=b"{}", headers=None, seconds=5):
    return asyncio.run(egress.post(url, body, headers or {}, seconds))


def resolving(*answers, **fields):
    """An egress whose host has these addresses: the first list at the first look-up, and so on."""
    left = list(answers)
    return Egress(look_up=lambda _, port: [(address, port) for address in left.pop(0)], **fields)


# addresses


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254",
        "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.0.170", "192.0.2.1", "192.88.99.1",
        "192.168.1.1", "198.18.0.1", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1",
        "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:93.184.215.14", "::ffff:0:127.0.0.1",
        "64:ff9b::10.0.0.1", "64:ff9b::93.184.215.14", "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:db8::1",
        "2001:10::1", "2001:20::1", "2002:7f00:1::", "2002:5db8:d70e::1", "3fff::1", "5f00::1", "fc00::1",
        "fd00:ec2::254", "fe80::1", "fe80::1%1", "fec0::1", "ff02::1", "ff0e::1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_a_public_host_s_is_refused(address):
    assert not is_public(ip_address(address))
    with pytest.raises(EgressError, match=f"{HOST} has an address that is not public"):
        post(resolving([address]))


@pytest.mark.parametrize("address", ["1.1.1.1", PUBLIC, "172.15.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"])
def test_a_public_address_is_allowed(address):
    assert is_public(ip_address(address))


@pytest.mark.parametrize("addresses", [[PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], [PUBLIC, "::1"], []])
def test_every_address_of_a_host_must_be_public(addresses):
    with pytest.raises(EgressError, match="not public"):
        post(resolving(addresses))


def test_what_a_name_resolves_to_inside_is_not_told():
    with pytest.raises(EgressError) as refused:
        post(resolving(["10.20.30.40"]))
    assert "10.20" not in str(refused.value)


# URLs


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://hooks.example.com/", "begins with https"),
        ("ftp://hooks.example.com/", "begins with https"),
        ("hooks.example.com", "begins with https"),
        ("//hooks.example.com/", "begins with https"),
        ("file:///etc/passwd", "begins with https"),
        ("https://user:password@hooks.example.com/", "no user name"),
        ("https://user@hooks.example.com/", "no user name"),
        ("https://hooks.example.com\\@127.0.0.1/", "no user name"),
        ("https://hooks.example.com#@127.0.0.1/", "no fragment"),
        ("https://hooks.example.com/#part", "no fragment"),
        ("https://hooks.example.com:80/", "port"),
        ("https://hooks.example.com:22/", "port"),
        ("https://hooks.example.com:99999/", "port"),
        ("https://hooks.example.com:-1/", "port"),
        ("https://hooks.example.com:0/", "port"),
        ("https:///path", "domain name"),
        ("https://localhost/", "domain name"),
        ("https://localhost./", "domain name"),
        ("https://hooks.example.com./", "domain name"),
        ("https://hooks..example.com/", "domain name"),
        ("https://.example.com/", "domain name"),
        ("https://exa mple.com/", "domain name"),
        ("https://hooks.example.com%00.evil/", "domain name"),
        ("https://93.184.215.14/", "domain name"),
        ("https://127.0.0.1/", "domain name"),
        ("https://127.1/", "domain name"),
        ("https://2130706433/", "domain name"),
        ("https://0x7f000001/", "domain name"),
        ("https://0x7f.0x0.0x0.0x1/", "domain name"),
        ("https://0177.0.0.1/", "expected a URL"),
        ("https://127.0.0.1./", "domain name"),
        ("https://127\u30020\u30020\u30021/", "domain name"),
        ("https://\u2460\u2461\u2466.0.0.1/", "expected a URL"),
        ("https://[::1]/", "domain name"),
        ("https://[::ffff:127.0.0.1]/", "domain name"),
        ("https://[fe80::1%25eth0]/", "domain name"),
        ("https://[2606:4700::1111]/", "domain name"),
        ("https://[::1/", "expected a URL"),
        ("https://\u24d4xample.com/", "expected a URL"),
        ("https://hooks.example.com/\r\nX-Evil: 1", "expected a URL"),
        ("https://" + "a" * 64 + ".com/", "expected a URL|domain name"),
        ("https://" + "a." * 130 + "com/", "expected a URL|domain name"),
        ("", "begins with https"),
    ],
)
def test_a_url_that_is_not_https_to_a_domain_name_is_refused(url, words):
    with pytest.raises(EgressError, match=words) as refused:
        check_url(url)
    assert "\n" not in str(refused.value)
    looked_up = []
    with pytest.raises(EgressError, match=words):  # and so it is when it comes from the records
        post(Egress(look_up=lambda *name: looked_up.append(name)), url)
    assert not looked_up


@pytest.mark.parametrize(
    ("url", "host", "normal"),
    [
        ("HTTPS://Hooks.Example.COM", "hooks.example.com", "https://hooks.example.com"),
        ("https://hooks.example.com:443/a?b=c", "hooks.example.com", "https://hooks.example.com/a?b=c"),
        ("https://hooks.example.com:8443/a b", "hooks.example.com", "https://hooks.example.com:8443/a%20b"),
        ("https://fa\u00df.de/", "xn--fa-hia.de", "https://xn--fa-hia.de/"),
        ("https://\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444/", "xn--e1afmkfd.xn--p1ai", None),
        ("https://my_hook.example.com/", "my_hook.example.com", "https://my_hook.example.com/"),
    ],
)
def test_a_domain_name_in_any_script_is_taken(url, host, normal):
    asked = []

    def look_up(*name):
        asked.append(name)
        return [(PUBLIC, name[1])]

    checked = asyncio.run(Egress(look_up=look_up).check(url, 5))
    assert normal is None or str(checked) == normal
    assert asked == [(host, 8443 if "8443" in url else 443)]


def test_a_name_that_does_not_resolve_is_refused():
    def look_up(*_):
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(EgressError, match=f"{HOST} does not resolve"):
        post(Egress(look_up=look_up))


def test_a_look_up_that_hangs_ends_in_time_and_does_not_hold_up_others(receiver, egress):
    hanging = Egress(look_up=lambda *_: time.sleep(30))

    async def both():
        results = await asyncio.gather(
            *(hanging.check(URL, 0.3) for _ in range(40)), egress.post(URL, b"{}", {}, 5), return_exceptions=True
        )
        assert all(isinstance(result, EgressError) and "within 0.3" in str(result) for result in results[:-1])
        assert results[-1] == 204

    begun = time.monotonic()
    asyncio.run(both())
    assert time.monotonic() - begun < 20
    assert len(receiver.posts) == 1


# posting


def test_a_post_names_the_host_in_tls_and_in_http(receiver, egress):
    assert post(egress, URL + "?a=b", b'{"x": 1}', {"X-One": "1"}) == 204
    (got,) = receiver.posts
    assert (got.path, got.body, got.sni) == ("/events?a=b", b'{"x": 1}', HOST)
    assert got.headers["host"] == HOST
    assert got.headers["x-one"] == "1"


def test_another_port_is_told_in_the_host_header(receiver, egress):
    post(egress, f"https://{HOST}:8443/")
    assert receiver.posts[0].headers["host"] == f"{HOST}:8443"


def test_ipv6_is_connected_to(new_receiver, trusted):
    receiver = new_receiver("::1")
    egress = Egress(lambda *_: [receiver.address], lambda _: True, trusted.trusted())
    assert post(egress) == 204
    assert receiver.posts[0].headers["host"] == HOST


def test_a_name_that_changes_between_check_and_post_is_refused(receiver, trusted):
    answers = [[(PUBLIC, 443)], [receiver.address]]
    egress = Egress(look_up=lambda *_: answers.pop(0), certificates=trusted.trusted())
    asyncio.run(egress.check(URL, 5))
    with pytest.raises(EgressError, match="not public"):
        post(egress)
    assert not receiver.posts


def test_the_connection_goes_to_the_address_that_was_checked(new_receiver, trusted):
    # The rule lets one address pass. A second look-up, by whatever layer, would lead to the other or fail.
    first, second = new_receiver("127.0.0.1"), new_receiver("127.0.0.2")
    answers = [[first.address], [second.address]]
    checked = []

    def is_allowed(address):
        checked.append(str(address))
        return str(address) == "127.0.0.1"

    egress = Egress(lambda *_: answers.pop(0), is_allowed, trusted.trusted())
    assert post(egress) == 204
    assert (len(first.posts), len(second.posts), checked, len(answers)) == (1, 0, ["127.0.0.1"], 1)
    with pytest.raises(EgressError, match="not public"):
        post(egress)
    assert not second.posts


def test_an_address_that_does_not_answer_is_passed_over(receiver, trusted):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        addresses = [closed.getsockname(), receiver.address]
        egress = Egress(lambda *_: addresses, lambda _: True, trusted.trusted())
        assert post(egress) == 204
        assert len(receiver.posts) == 1
        addresses.pop()
        with pytest.raises(EgressError, match="no connection: "):
            post(egress)


def test_a_certificate_for_another_name_is_refused(receiver, egress):
    with pytest.raises(EgressError, match="certificate"):
        post(egress, "https://other.example.com/")
    assert not receiver.posts


def test_a_certificate_that_nobody_vouches_for_is_refused(receiver, tmp_path):
    for certificates in (authority(tmp_path).trusted(), Egress().certificates):
        with pytest.raises(EgressError, match="certificate"):
            post(Egress(lambda *_: [receiver.address], lambda _: True, certificates))
    assert not receiver.posts


def test_a_proxy_of_the_environment_is_ignored(receiver, egress, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert post(egress) == 204
    assert len(receiver.posts) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_not_followed(receiver, new_receiver, egress, status):
    inside = new_receiver()
    receiver.behave = answer(status, Location=f"https://127.0.0.1:{inside.address[1]}/admin")
    assert post(egress) == status
    assert (len(receiver.posts), len(inside.posts)) == (1, 0)


def drip(handler):
    """An answer that never ends and never falls silent."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X-Slow: 1\r\n"[:1])
        time.sleep(0.05)


def interim(handler):
    """Interim answers without an end."""
    while True:
        handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)


def silence(handler):
    time.sleep(5)
    handler.close_connection = True


@pytest.mark.parametrize("behaviour", [drip, interim, silence])
def test_an_answer_that_does_not_come_to_an_end_is_cut_off(receiver, egress, behaviour):
    receiver.behave = behaviour
    begun = time.monotonic()
    with pytest.raises(EgressError, match=r"within 0\.5 seconds"):
        post(egress, seconds=0.5)
    assert time.monotonic() - begun < 5


def test_a_server_that_accepts_and_says_nothing_is_hung_up_on(trusted):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        egress = Egress(lambda *_: [listener.getsockname()], lambda _: True, trusted.trusted())

        async def both():
            with pytest.raises(EgressError, match="no connection: "):
                await egress.post(URL, b"{}", {}, 0.5)
            connection, _ = listener.accept()  # while the loop runs on, as that of a deliverer does
            with connection:
                connection.settimeout(5)
                assert connection.recv(10_000)  # a greeting
                assert connection.recv(10_000) == b""

        asyncio.run(both())


def test_a_huge_answer_is_not_read(receiver, egress):
    sent = []

    def behave(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        try:
            while True:
                handler.wfile.write(bytes(1 << 20))
                sent.append(1 << 20)
        except (OSError, ssl.SSLError):
            sent.append(0)

    receiver.behave = behave
    assert post(egress) == 200
    deadline = time.monotonic() + 10
    while (not sent or sent[-1]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sent[-1] == 0
    assert sum(sent) <= 16 << 20  # what the buffers of both ends hold


@pytest.mark.parametrize("text", [b"nonsense\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 10**6])
def test_an_answer_that_is_not_http_is_an_error(receiver, egress, text):
    receiver.behave = lambda handler: (handler.wfile.write(text), setattr(handler, "close_connection", True))
    with pytest.raises(EgressError, match="no answer: ") as refused:
        post(egress)
    assert len(str(refused.value)) < 300
