"""Golden files whose hash is right and whose content is made to mislead."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import zipfile
from dataclasses import fields, replace

import numpy as np
import pytest

from vae_edge.bundle import Bundle
from vae_edge.errors import BundleError, ParityError
from vae_edge.golden import GoldenVectors
from vae_edge.parity import golden_reference

ARRAYS = tuple(field.name for field in fields(GoldenVectors))


@pytest.fixture
def members(tiny):
    """The golden file, unpacked."""
    with zipfile.ZipFile(io.BytesIO(tiny.golden().to_bytes())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(members, compression=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def refused(content):
    with pytest.raises(BundleError) as caught:
        GoldenVectors.from_bytes(content, "golden.npz")
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_members_repacked_are_read(members):
    """Proves that what the tests below change is what makes the difference."""
    GoldenVectors.from_bytes(pack(members), "golden.npz")
    GoldenVectors.from_bytes(pack(members, zipfile.ZIP_STORED), "golden.npz")


class Planted:
    """Unpickling it would leave a mark."""

    ran: list[int] = []  # noqa: RUF012

    def __reduce__(self):
        return (Planted.ran.append, (1,))


def test_pickled_array_is_never_unpickled(members):
    stream = io.BytesIO()
    np.save(stream, np.array([Planted()], object), allow_pickle=True)

    message = refused(pack({**members, "z.npy": stream.getvalue()}))

    assert "allow_pickle=False" in message
    assert Planted.ran == []


def test_bare_pickle_is_never_unpickled(members):
    content = pickle.dumps(Planted())

    assert "not a file of golden vectors" in refused(content)
    assert "not a file of golden vectors" in refused(pack({**members, "z.npy": content}))
    assert Planted.ran == []


def test_bomb_that_declares_its_size_is_refused_unpacked(members):
    content = pack({**members, "z.npy": b"\0" * ((1 << 28) + 1)})
    assert len(content) < 1 << 20

    assert "unpacks to more than 256 MB" in refused(content)


def test_bomb_that_lies_about_its_size_is_refused(members):
    """The central directory says 100 bytes; the stream holds 50 MB."""
    size = 50_000_000
    content = pack(
        {
            **members,
            "z.npy": npy(
                "{'descr': '<f4', 'fortran_order': False, 'shape': (12500000,)}", b"\0" * size
            ),
        }
    )
    true, lie = struct.pack("<I", size + 128), struct.pack("<I", 100)
    assert content.count(true) == 2

    assert "not a file of golden vectors" in refused(content.replace(true, lie))


@pytest.mark.parametrize("shape", ["(10**15,)", "(1000000000000000,)", "(2**40, 2**40)"])
def test_header_that_asks_for_all_memory_is_refused(members, shape):
    shape = str(eval(shape))
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"

    assert "not a file of golden vectors" in refused(pack({**members, "z.npy": npy(header)}))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{",
        "{'descr': '<f4'}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': 'nonsense', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 'x'}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (0,)}",
        "__import__('os').getcwd()",
        "((((((((((" * 9,
        "'''",
        "\\",
        "x\n  y\n z",
    ],
)
def test_header_that_is_none_is_refused(members, header):
    assert refused(pack({**members, "z.npy": npy(header, b"\0" * 64)}))


@pytest.mark.parametrize("name", ARRAYS)
def test_missing_array_is_refused(members, name):
    del members[f"{name}.npy"]

    assert "it holds the arrays" in refused(pack(members))


def test_additional_array_is_refused(members):
    assert "it holds the arrays" in refused(pack({**members, "w.npy": members["z.npy"]}))


@pytest.mark.parametrize("name", ARRAYS)
def test_array_of_no_dimension_is_refused(members, name):
    stream = io.BytesIO()
    np.save(stream, np.uint8(1) if name == "image" else np.float32(1))

    assert refused(pack({**members, f"{name}.npy": stream.getvalue()}))


def test_member_that_is_no_array_is_refused(members):
    assert "not a file of golden vectors" in refused(pack({**members, "z.npy": b"text"}))


@pytest.mark.parametrize("step", range(0, 900, 13))
def test_flipped_bytes_never_escape_as_another_error(tiny, step):
    """Anywhere in the file; whatever zipfile, zlib and numpy make of it."""
    content = bytearray(tiny.golden().to_bytes())
    content[step % len(content)] ^= 0xFF
    with contextlib.suppress(BundleError):
        GoldenVectors.from_bytes(bytes(content), "golden.npz")


def test_encrypted_member_is_refused(members):
    content = bytearray(pack(members))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(signature, at + 1)

    assert "not a file of golden vectors" in refused(bytes(content))


def test_golden_vectors_of_another_model_are_refused(tiny, tiny_bundle, plant):
    other = tiny.golden()
    wider = replace(
        other,
        image=np.repeat(other.image, 2, axis=2),
        reconstruction=np.repeat(other.reconstruction, 2, axis=2),
        edge_image=np.repeat(other.edge_image, 2, axis=2),
        edge_reconstruction=np.repeat(other.edge_reconstruction, 2, axis=2),
    )
    plant(tiny_bundle, "golden.npz", wider.to_bytes())

    with pytest.raises(ParityError, match="holds vectors of another model than the manifest"):
        golden_reference(Bundle.open(tiny_bundle))


def test_fewer_golden_vectors_than_promised_are_refused(tiny, tiny_bundle, plant):
    plant(tiny_bundle, "golden.npz", tiny.golden(images=4, prior=4).to_bytes())

    with pytest.raises(ParityError, match="holds vectors of another model than the manifest"):
        golden_reference(Bundle.open(tiny_bundle))


def test_damaged_golden_file_names_its_path(tiny_bundle, plant):
    plant(tiny_bundle, "golden.npz", b"not an archive")

    with pytest.raises(BundleError, match=r"tiny/golden\.npz: not a file of golden vectors"):
        golden_reference(Bundle.open(tiny_bundle))
