"""POSTGRES_SSLMODE=verify-full: the right server is asked, any other is refused with one line.

A CA of the tests' own stands in for the one in RDS's bundle.
"""

import datetime
import socket
import ssl
import threading
from contextlib import closing, suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import gate.connect
import gate.environment
import populator.connect
import populator.environment
import weather.connect
import weather.environment
from weather.settings import Settings
from weather.waiting import deadline_from_now

DAY = datetime.timedelta(days=1)


def certificate(subject, issuer, key, signed_by, *extensions):
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]),
        key.public_key(),
        x509.random_serial_number(),
        now - DAY,
        now + DAY,
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(signed_by, hashes.SHA256())


def authority(name):
    """A key, and the certificate of the CA that has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key, certificate(name, name, key, key, x509.BasicConstraints(True, 0))


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def ca():
    return authority("ours")


def relay(source, target):
    """Send on what comes until one side ends, which ends the other."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def converse(client, context, port):
    """One connection. TLS as PostgreSQL begins it: the client asks in 8 bytes, S is yes."""
    with suppress(OSError), client:  # one that does not trust the certificate leaves
        client.recv(8, socket.MSG_WAITALL)
        client.sendall(b"S")
        with (
            context.wrap_socket(client, server_side=True) as encrypted,
            socket.create_connection(("127.0.0.1", port)) as server,
        ):
            answers = threading.Thread(target=relay, args=(server, encrypted))
            answers.start()
            relay(encrypted, server)
            answers.join()


def serve(listener, context, port):
    """Until the listener is closed."""
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=converse, args=(client, context, port), daemon=True).start()


@pytest.fixture(scope="module")
def server(databases, ca, tmp_path_factory):
    """The environment of a client of PostgreSQL with a certificate for localhost.

    The server of the tests is built without TLS, so this stands in front of it; what checks the
    certificate is libpq.
    """
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(
        pem(certificate("server", "ours", key, ca[0], names))
        + key.private_bytes(encoding, form, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    database = databases.make()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = (listener, context, databases.server.port)
        threading.Thread(target=serve, args=arguments, daemon=True).start()
        yield database.environ | {
            "POSTGRES_HOST": "localhost",
            "POSTGRES_PORT": str(listener.getsockname()[1]),
            "POSTGRES_SSLMODE": "verify-full",
        }
    databases.drop(database)


def of_flask(environ):
    return weather.connect.connect(Settings.from_env(environ), deadline_from_now())


def of_the_populator(environ):
    settings = populator.environment.PostgresSettings.from_env(environ)
    return populator.connect.connect_when_ready(settings)


def of_the_gate(environ):
    return gate.connect.connect(gate.environment.PostgresSettings.from_env(environ))


CLIENTS = [of_flask, of_the_populator, of_the_gate]


@pytest.fixture
def trusting(server, tmp_path):
    """Makes the environment of a client that trusts this CA."""

    def trusting(authority, **variables):
        (tmp_path / "ca.pem").write_bytes(pem(authority[1]))
        return server | {"POSTGRES_SSLROOTCERT": str(tmp_path / "ca.pem")} | variables

    return trusting


@pytest.mark.parametrize("connect", CLIENTS)
def test_the_right_server_is_asked(connect, trusting, ca):
    with closing(connect(trusting(ca))) as connection:
        assert connection.info.ssl_in_use


@pytest.mark.parametrize("connect", CLIENTS)
@pytest.mark.parametrize(
    ("signer", "host", "reason"),
    [
        ("ours", "127.0.0.1", 'does not match host name "127.0.0.1"'),
        ("others", "localhost", "certificate verify failed"),
    ],
)
def test_any_other_server_is_refused(connect, trusting, ca, signer, host, reason, monkeypatch):
    monkeypatch.setattr(gate.connect, "CONNECT_TIMEOUT", 0)  # it would try for 10 s
    signers = {"ours": ca, "others": authority("others")}
    with pytest.raises(Exception, match=reason) as refused:
        connect(trusting(signers[signer], POSTGRES_HOST=host))
    assert len(str(refused.value).strip().splitlines()) == 1
