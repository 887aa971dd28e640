"""A certificate from the coordinator is read whole before any of it is used, and what is none is refused."""

from __future__ import annotations

import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fedmedlora_protos import wire
from fedmedlora_site.errors import CertificateError
from fedmedlora_site.issued import read_issued
from fedmedlora_site.server_check import certificate_problem
from fedmedlora_testkit.fuzzed import certificate

CA = x509.load_pem_x509_certificate(certificate())
VERSION_3, VERSION_7 = b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x06"


def of_an_unknown_version() -> bytes:
    der = CA.public_bytes(Encoding.DER)
    assert der.count(VERSION_3) == 1
    return der.replace(VERSION_3, VERSION_7)


def test_a_certificate_of_the_pinned_ca_is_read() -> None:
    found = read_issued(certificate(), certificate(), CA)
    assert (found.site, found.same_ca) == ("site-a", True)


def test_a_certificate_of_an_unknown_version_is_refused_by_every_reader() -> None:
    pem = ssl.DER_cert_to_PEM_cert(of_an_unknown_version()).encode()
    with pytest.raises(x509.InvalidVersion):  # no ValueError: a reader that expects those would end here
        x509.load_pem_x509_certificate(pem)
    with pytest.raises(CertificateError, match="unusable"):
        read_issued(pem, certificate(), CA)
    with pytest.raises(wire.WireError, match="certificate"):
        wire.site_id_of_certificate(pem)
    now = datetime.datetime(2026, 1, 1, 1, tzinfo=datetime.UTC)
    assert certificate_problem("localhost:1", of_an_unknown_version(), CA, now) is None
