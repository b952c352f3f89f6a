"""Certificates as an operator makes them with openssl: an authority, and what it signs."""

import subprocess
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_authority(folder: Path, name: str) -> Path:
    """Make an authority; return the file of its certificate."""
    file = folder / f"{name}.pem"
    _openssl("req", "-x509", *KEY, "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{file}.key", "-out", str(file))
    return file


def sign(authority: Path, name: str, *, host: str, days: int = 2) -> Path:
    """Sign a certificate for `host`, with negative `days` an expired one; return its file. Its key is in `FILE.key`."""
    file = authority.with_name(f"{name}.pem")
    request, names = file.with_suffix(".csr"), file.with_suffix(".names")
    _openssl("req", *KEY, "-subj", f"/CN={host}", "-keyout", f"{file}.key", "-out", str(request))
    names.write_text(f"subjectAltName=DNS:{host}\n")
    signer = ("-CA", str(authority), "-CAkey", f"{authority}.key", "-days", str(days), "-extfile", str(names))
    _openssl("x509", "-req", "-in", str(request), *signer, "-out", str(file))
    return file


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=30)
