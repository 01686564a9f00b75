"""Who is at the other end: keys of one's own, and certificates that the organisations gave each other.

No authority vouches for anybody: each certificate is signed by its own key, lies in every organisation's
copy of the consortium's file, and is compared byte by byte.  TLS 1.3 (RFC 8446), Ed25519 (RFC 8032).
"""

import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from federation.errors import BadInput
from federation.files import replacing

YEARS = 10
"""For which a certificate is valid: who is out is taken out of the file, not waited for."""


def create(name: str, key: Path, certificate: Path) -> None:
    """A new key (mode 0600) for `name`, and the certificate that others know it by.

    Raises `BadInput` where there is one of either: what others were given would no longer fit.
    """
    for path in (key, certificate):
        if path.exists():
            raise BadInput(f"{path}: exists already; found a file, expected none")
    private, now = Ed25519PrivateKey.generate(), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, private.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(
        now + timedelta(days=365.25 * YEARS)
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    with replacing(key) as secret, replacing(certificate) as known:  # both, or none
        secret.write(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        known.write(builder.sign(private, None).public_bytes(Encoding.PEM))


def read(certificate: Path) -> bytes:
    """The certificate in a file, as TLS shows it (DER); raises `BadInput` for none.

    One that is out of date lets nobody in, which is no trouble of all others who have the file.
    """
    return _loaded(certificate).public_bytes(Encoding.DER)


def read_in_date(certificate: Path) -> bytes:
    """As `read`; raises `BadInput` for one out of date, too."""
    found = _loaded(certificate)
    if not found.not_valid_before_utc <= datetime.now(UTC) <= found.not_valid_after_utc:
        raise BadInput(
            f"{certificate}: is valid from {found.not_valid_before_utc:%Y-%m-%d} to "
            f"{found.not_valid_after_utc:%Y-%m-%d}, expected today within; make a new one"
        )
    return found.public_bytes(Encoding.DER)


def _loaded(certificate: Path) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        key = found.public_key()
    except FileNotFoundError:
        raise BadInput(
            f"{certificate}: found none, expected a certificate, as its owner makes it by `chorus identity`"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadInput(f"{certificate}: found no certificate, expected one in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise BadInput(f"{certificate}: found another kind of key, expected Ed25519, as of `chorus identity`")
    return found


def server_side(key: Path, certificate: Path, others: Iterable[bytes]) -> ssl.SSLContext:
    """TLS for who listens: only who holds a key of `others` (DER) gets in."""
    return _context(ssl.PROTOCOL_TLS_SERVER, key, certificate, others)


def client_side(key: Path, certificate: Path, other: bytes) -> ssl.SSLContext:
    """TLS for who connects: only to who holds the key of `other` (DER)."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, key, certificate, [other])


def _context(kind: int, key: Path, certificate: Path, others: Iterable[bytes]) -> ssl.SSLContext:
    context = ssl.SSLContext(kind)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a certificate is known, wherever its holder is
    context.verify_mode = ssl.CERT_REQUIRED
    for other in others:
        context.load_verify_locations(cadata=other)
    read_in_date(certificate)
    if not key.exists():
        raise BadInput(f"{key}: found none, expected the key of {certificate}; see `chorus identity`")
    try:
        context.load_cert_chain(certificate, key, password="")  # else it would ask for one
    except ssl.SSLError:
        raise BadInput(f"{key}: is not the key of {certificate}, expected the one it was made with") from None
    return context
