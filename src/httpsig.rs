//! HTTP Message Signatures (RFC 9421) under the requests of providers: one profile, one spelling.
//!
//! ```text
//! Waymark-Origin:  <origin of the DP's log>
//! Content-Digest:  sha-256=:<base64>:                                                              RFC 9530
//! Signature-Input: waymark=("@method" "@path" "content-type" "content-digest" "waymark-origin")
//!                  ;created=<s>;expires=<s>;nonce="<32 hex digits>";keyid="<domain>/<key, hex>";alg="ed25519";tag="waymark"
//! Signature:       waymark=:<base64 of 64 bytes>:
//! ```
//!
//! The parameters may stand in any order; everything else is as shown, each header once. What is covered is what a proxy has
//! no business to change. `@authority` is not: a proxy that ends TLS may change it, and a DP would have to know by which
//! names it is called. `Waymark-Origin` takes its place, so that a request to one DP is worth nothing at another. A query
//! is not covered, so a signed request has none.
//!
//! Such a signature says which provider asks, once, now. It is never authority for a change or an entry: those are signed
//! themselves.

use axum::http::HeaderMap;
use data_encoding::{BASE64, HEXLOWER};
use sfv::{BareItem, Dictionary, FieldType, InnerList, Item, ListEntry, Parameters, Parser};
use waymark_log::{
    checkpoint::Origin,
    hash::Hash,
    key::{Key, SIGNATURE_BYTES, SecretKey, Signature},
    time::UnixSeconds,
};
use waymark_mapping::names::Domain;

/// Longest that a signature may be valid: five minutes. So long its nonce is remembered.
pub const VALID_S_MAX: u64 = 300;
/// The header that names the log of the DP that the request is for.
pub const ORIGIN_HEADER: &str = "waymark-origin";
/// The header with the body's digest.
pub const DIGEST_HEADER: &str = "content-digest";
/// The header that says what is signed.
pub const INPUT_HEADER: &str = "signature-input";
/// The header with the signature.
pub const SIGNATURE_HEADER: &str = "signature";
/// Name of our signature among those of a message, and the application that it is for.
const LABEL: &str = "waymark";
/// The one algorithm.
const ALGORITHM: &str = "ed25519";
/// What is covered, in this order.
const COMPONENTS: [&str; 5] = ["@method", "@path", "content-type", DIGEST_HEADER, ORIGIN_HEADER];

/// Why a signature under a request is not good. It says what to mend and quotes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadRequestSignature {
    /// A header is missing, stands twice, or is not text.
    #[error("each of Content-Type, Content-Digest, Waymark-Origin, Signature-Input and Signature stands once")]
    Headers,
    /// The request has a query.
    #[error("a signed request has no query: it is not covered")]
    Query,
    /// Not the profile.
    #[error("Signature-Input is not of the one form that is taken here")]
    Input,
    /// Not 64 bytes under our label.
    #[error("Signature is not of the one form that is taken here")]
    Form,
    /// For another log.
    #[error("the request is for another log")]
    OtherOrigin,
    /// `expires` does not follow `created` within five minutes.
    #[error("a signature is valid for at most five minutes")]
    Lifetime,
    /// The key has not signed this.
    #[error("the signature does not verify")]
    Signature,
    /// The body is not the one whose digest was signed.
    #[error("the body is not the one whose digest was signed")]
    Digest,
}

/// Who signed a request, and when. Made only by [`Claim::check`], so the signature was good; whether the key is that provider's is
/// for the directory to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// As which provider.
    pub domain: Domain,
    /// With which key.
    pub key: Key,
    /// From when on, by the signer's clock.
    pub created: UnixSeconds,
    /// Until when.
    pub expires: UnixSeconds,
    /// Random, once.
    pub nonce: [u8; 16],
    digest: Hash,
}

/// What a request claims of itself. Its signature was not checked.
pub struct Claim {
    said: Opened,
    base: String,
    signature: Signature,
}

/// A request, as far as it is signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The path, without query.
    pub path: &'a str,
    /// The content type, exactly as sent.
    pub media_type: &'a str,
}

/// What is signed: a line for each component, and the parameters.
///
/// ```text
/// "<component>": <value>\n
/// "@signature-params": <component list and parameters>
/// ```
pub fn signature_base(components: &[(&str, &str)], parameters: &str) -> String {
    let mut base = String::new();
    for (name, value) in components {
        base += &format!("\"{name}\": {value}\n");
    }
    base + &format!("\"@signature-params\": {parameters}")
}

fn base_of(request: Request<'_>, digest: &str, origin: &str, parameters: &str) -> String {
    let [method, path, media_type, digest_name, origin_name] = COMPONENTS;
    let components = [
        (method, request.method),
        (path, request.path),
        (media_type, request.media_type),
        (digest_name, digest),
        (origin_name, origin),
    ];
    signature_base(&components, parameters)
}

/// Signs a request as a provider: the headers to send along.
pub fn sign(
    origin: &Origin,
    (domain, secret): (&Domain, &SecretKey),
    request: Request<'_>,
    body: &[u8],
    created: UnixSeconds,
    nonce: [u8; 16],
) -> [(&'static str, String); 4] {
    let digest = format!("sha-256=:{}:", BASE64.encode(Hash::sha256(&[body]).as_bytes()));
    let covered = COMPONENTS.map(|name| format!("\"{name}\"")).join(" ");
    let (from, until) = (created.get(), created.get().saturating_add(VALID_S_MAX));
    let (nonce, key) = (HEXLOWER.encode(&nonce), secret.public().to_hex());
    let parameters = format!(
        "({covered});created={from};expires={until};nonce=\"{nonce}\";keyid=\"{domain}/{key}\";alg=\"{ALGORITHM}\";tag=\"{LABEL}\""
    );
    let signature = secret.sign(base_of(request, &digest, origin.as_str(), &parameters).as_bytes());
    [
        (ORIGIN_HEADER, origin.as_str().to_owned()),
        (DIGEST_HEADER, digest),
        (INPUT_HEADER, format!("{LABEL}={parameters}")),
        (SIGNATURE_HEADER, format!("{LABEL}=:{}:", BASE64.encode(signature.as_bytes()))),
    ]
}

/// Whether a request claims to be signed by a provider.
pub fn is_claimed(headers: &HeaderMap) -> bool {
    headers.contains_key(INPUT_HEADER) || headers.contains_key(SIGNATURE_HEADER)
}

/// Reads the signature under a request's head, before its body is read, and does not check it yet: that takes much longer than
/// to find out whether the key is anybody's.
///
/// # Errors
/// [`BadRequestSignature`], never [`BadRequestSignature::Signature`].
pub fn read(
    headers: &HeaderMap,
    method: &str,
    uri: &axum::http::Uri,
    origin: &Origin,
) -> Result<Claim, BadRequestSignature> {
    // RFC 9421 would allow a field in several lines, joined by commas; one spelling is enough.
    let once = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().and_then(|v| v.to_str().ok()).map(str::trim);
        value.filter(|_| values.next().is_none()).ok_or(BadRequestSignature::Headers)
    };
    if uri.query().is_some() {
        return Err(BadRequestSignature::Query);
    }
    let (digest, named) = (once(DIGEST_HEADER)?, once(ORIGIN_HEADER)?);
    let request = Request { method, path: uri.path(), media_type: once("content-type")? };
    let (parameters, said) = parse_input(once(INPUT_HEADER)?).ok_or(BadRequestSignature::Input)?;
    let signature = parse_bytes(once(SIGNATURE_HEADER)?, LABEL).and_then(|b| b.try_into().ok());
    let signature: [u8; SIGNATURE_BYTES] = signature.ok_or(BadRequestSignature::Form)?;
    if named != origin.as_str() {
        return Err(BadRequestSignature::OtherOrigin);
    }
    // "created and expires, at most 300 s apart": the nonce must be remembered for so long.
    if said.expires <= said.created || said.expires.get() - said.created.get() > VALID_S_MAX {
        return Err(BadRequestSignature::Lifetime);
    }
    let base = base_of(request, digest, named, parameters);
    let digest = parse_bytes(digest, "sha-256").and_then(|b| Hash::from_slice(&b));
    let said = Opened { digest: digest.ok_or(BadRequestSignature::Digest)?, ..said };
    Ok(Claim { said, base, signature: Signature::new(signature) })
}

/// [`read`], and [`Claim::check`].
///
/// # Errors
/// [`BadRequestSignature`].
pub fn open(
    headers: &HeaderMap,
    method: &str,
    uri: &axum::http::Uri,
    origin: &Origin,
) -> Result<Opened, BadRequestSignature> {
    read(headers, method, uri, origin)?.check()
}

impl Claim {
    /// Which provider is to have signed, and with which key.
    pub const fn signer(&self) -> (&Domain, &Key) {
        (&self.said.domain, &self.said.key)
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`BadRequestSignature::Signature`].
    pub fn check(self) -> Result<Opened, BadRequestSignature> {
        let Self { said, base, signature } = self;
        said.key.verify(base.as_bytes(), &signature).map_err(|_| BadRequestSignature::Signature)?;
        Ok(said)
    }
}

impl Opened {
    /// Checks that a body is the one that was signed.
    ///
    /// # Errors
    /// [`BadRequestSignature::Digest`].
    pub fn check_body(&self, body: &[u8]) -> Result<(), BadRequestSignature> {
        if Hash::sha256(&[body]) == self.digest { Ok(()) } else { Err(BadRequestSignature::Digest) }
    }
}

/// Reads Signature-Input: the text of its one member, which is signed, and what it says. `None` unless the value is spelled
/// as RFC 9651 would write it and has exactly our components and parameters.
fn parse_input(value: &str) -> Option<(&str, Opened)> {
    let dictionary: Dictionary = Parser::new(value).parse().ok()?;
    let Some(ListEntry::InnerList(InnerList { items, params })) = dictionary.get(LABEL) else { return None };
    let one_spelling = dictionary.len() == 1 && dictionary.serialize().as_deref() == Some(value);
    let is = |item: &Item, name: &str| {
        item.params.is_empty() && matches!(&item.bare_item, BareItem::String(s) if s.as_str() == name)
    };
    let ours = items.len() == COMPONENTS.len() && items.iter().zip(COMPONENTS).all(|(item, name)| is(item, name));
    if !one_spelling || !ours || params.len() != 6 {
        return None;
    }
    if text(params, "alg")? != ALGORITHM || text(params, "tag")? != LABEL {
        return None;
    }
    let (domain, key) = text(params, "keyid")?.split_once('/')?;
    let said = Opened {
        domain: Domain::parse(domain)?,
        key: Key::from_hex(key)?,
        created: seconds(params, "created")?,
        expires: seconds(params, "expires")?,
        nonce: HEXLOWER.decode(text(params, "nonce")?.as_bytes()).ok()?.try_into().ok()?,
        digest: Hash::ZERO,
    };
    Some((value.strip_prefix(LABEL)?.strip_prefix('=')?, said))
}

fn text<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    match parameters.get(name)? {
        BareItem::String(text) => Some(text.as_str()),
        _ => None,
    }
}

fn seconds(parameters: &Parameters, name: &str) -> Option<UnixSeconds> {
    match parameters.get(name)? {
        BareItem::Integer(seconds) => u64::try_from(i64::from(*seconds)).ok().map(UnixSeconds::new),
        _ => None,
    }
}

/// Reads `<name>=:<base64>:`, in one spelling.
fn parse_bytes(value: &str, name: &str) -> Option<Vec<u8>> {
    let dictionary: Dictionary = Parser::new(value).parse().ok()?;
    let Some(ListEntry::Item(Item { bare_item: BareItem::ByteSequence(bytes), params })) = dictionary.get(name) else {
        return None;
    };
    let one_spelling = dictionary.len() == 1 && params.is_empty() && dictionary.serialize().as_deref() == Some(value);
    one_spelling.then(|| bytes.clone())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue, Uri};
    use data_encoding::BASE64URL_NOPAD;

    use super::*;

    const BODY: &[u8] = b"{\"csi\":\"x\"}";
    const REQUEST: Request<'_> = Request { method: "POST", path: "/v1/imports", media_type: "application/json" };

    fn origin() -> Origin {
        Origin::new("dp.example/log").unwrap()
    }

    fn signed() -> HeaderMap {
        let (domain, secret) = (Domain::parse("chat.example").unwrap(), SecretKey::from_seed(&[1; 32]));
        let made = sign(&origin(), (&domain, &secret), REQUEST, BODY, UnixSeconds::new(1000), [7; 16]);
        let header = |(n, v): (&'static str, String)| (HeaderName::from_static(n), HeaderValue::from_str(&v).unwrap());
        let mut headers: HeaderMap = made.into_iter().map(header).collect();
        headers.insert("content-type", HeaderValue::from_static(REQUEST.media_type));
        headers
    }

    fn opened(headers: &HeaderMap) -> Result<Opened, BadRequestSignature> {
        open(headers, REQUEST.method, &Uri::from_static(REQUEST.path), &origin())
    }

    /// RFC 9421, B.2.6, with the key of B.1.4: Ed25519 is deterministic, so the signature must be the published one.
    #[test]
    fn the_published_ed25519_example() {
        let seed = BASE64URL_NOPAD.decode(b"n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU").unwrap();
        let secret = SecretKey::from_seed(&seed.try_into().unwrap());
        let public = BASE64URL_NOPAD.decode(b"JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs").unwrap();
        assert_eq!(secret.public().as_bytes().as_slice(), public);
        let components = [
            ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("@method", "POST"),
            ("@path", "/foo"),
            ("@authority", "example.com"),
            ("content-type", "application/json"),
            ("content-length", "18"),
        ];
        let parameters = "(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\")\
                          ;created=1618884473;keyid=\"test-key-ed25519\"";
        let signature = secret.sign(signature_base(&components, parameters).as_bytes());
        let published = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==";
        assert_eq!(BASE64.encode(signature.as_bytes()), published);
    }

    #[test]
    fn a_signed_request_opens() {
        let said = opened(&signed()).unwrap();
        assert_eq!((said.domain.as_str(), said.nonce), ("chat.example", [7; 16]));
        assert_eq!((said.created.get(), said.expires.get()), (1000, 1300));
        assert_eq!(said.key, SecretKey::from_seed(&[1; 32]).public());
        assert_eq!(said.check_body(BODY), Ok(()));
        assert_eq!(said.check_body(b"{}"), Err(BadRequestSignature::Digest));
    }

    #[test]
    fn every_covered_part_counts() {
        let headers = signed();
        let path = |path| open(&headers, "POST", &Uri::from_static(path), &origin());
        assert_eq!(path("/v1/providers"), Err(BadRequestSignature::Signature));
        assert_eq!(path("/v1/imports?x"), Err(BadRequestSignature::Query));
        let get = open(&headers, "GET", &Uri::from_static(REQUEST.path), &origin());
        assert_eq!(get, Err(BadRequestSignature::Signature));
        let elsewhere = open(&headers, "POST", &Uri::from_static(REQUEST.path), &Origin::new("other/log").unwrap());
        assert_eq!(elsewhere, Err(BadRequestSignature::OtherOrigin));
        // One character less, or another one in any place: never opened.
        for name in ["content-type", DIGEST_HEADER, ORIGIN_HEADER, INPUT_HEADER, SIGNATURE_HEADER] {
            let value = headers[name].to_str().unwrap().to_owned();
            let changed = (0..value.len()).map(|i| {
                let other = if value.as_bytes()[i] == b'1' { "2" } else { "1" };
                format!("{}{other}{}", &value[..i], &value[i + 1..])
            });
            for bad in changed.chain([value[..value.len() - 1].to_owned(), String::new()]) {
                let mut headers = headers.clone();
                headers.insert(name, HeaderValue::from_str(&bad).unwrap());
                assert!(opened(&headers).is_err(), "{name}: {bad}");
            }
            let mut twice = headers.clone();
            twice.append(name, headers[name].clone());
            assert_eq!(opened(&twice), Err(BadRequestSignature::Headers));
            let mut none = headers.clone();
            none.remove(name);
            assert_eq!(opened(&none), Err(BadRequestSignature::Headers));
        }
    }

    #[test]
    fn one_profile_in_one_spelling() {
        let headers = signed();
        let input = headers[INPUT_HEADER].to_str().unwrap().to_owned();
        for (from, to) in [
            ("waymark=", "other="),
            ("waymark=", "other=1, waymark="),
            (" \"@path\"", ""),
            ("\"@path\"", "\"@path\";req"),
            ("\" \"", "\"  \""),
            (");created", ") ;created"),
            ("created=1000", "created=01000"),
            ("created=1000", "created=1000.0"),
            ("expires=1300", "expires=1301"),
            ("expires=1300", "expires=1000"),
            (";expires=1300", ""),
            ("alg=\"ed25519\"", "alg=\"rsa-pss-sha512\""),
            ("tag=\"waymark\"", "tag=\"waymark2\""),
            ("tag=\"waymark\"", "tag=\"waymark\";x"),
            ("chat.example/", "Chat.example/"),
            ("nonce=\"07", "nonce=\""),
        ] {
            assert!(input.contains(from), "{from}");
            let mut headers = headers.clone();
            headers.insert(INPUT_HEADER, HeaderValue::from_str(&input.replacen(from, to, 1)).unwrap());
            let refused = opened(&headers).unwrap_err();
            assert!(matches!(refused, BadRequestSignature::Input | BadRequestSignature::Lifetime), "{from} → {to}");
        }
    }
}
