"""What is wrong with the certificate of a store, in words: each cause has a repair of its own."""

NO_TLS = "cannot be reached through TLS"
SENTENCES = {
    9: "shows a certificate that is not valid yet, look at the clocks",
    10: "shows a certificate that has expired, renew it",
    62: "shows a certificate for another name than the host in its URL",
    64: "shows a certificate for another name than the address in its URL",
} | dict.fromkeys((18, 19, 20, 21), "shows a certificate of an authority that is not trusted, see FOOTFALL_CA_FILE")
"""By OpenSSL's X509_V_ERR code (openssl-verification-options(1), x509_vfy.h)."""


def tls_sentence(error: BaseException) -> str:
    """Return what an operator has to know of a failed handshake."""
    return SENTENCES.get(getattr(error, "verify_code", 0), NO_TLS)
