//! Clients that have to say who they are: a token that this load balancer has signed, in a cookie or
//! a field, or else they are sent to where they get one.
//!
//! Like Google's, but whoever says a name at the login page is believed: a lab has no accounts.
//! Source: Identity-Aware Proxy, "Securing your app with signed headers".

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Response, StatusCode};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::pool::Body;
use super::record::Way;
use super::request::{Going, Refusal, full};

/// What a backend is told of a client: who it is, signed.
const ASSERTION: HeaderName = HeaderName::from_static("x-goog-iap-jwt-assertion");
const EMAIL: HeaderName = HeaderName::from_static("x-goog-authenticated-user-email");
const ID: HeaderName = HeaderName::from_static("x-goog-authenticated-user-id");

/// The cookie that a client keeps its token in.
const COOKIE: &str = "GCP_IAP_AUTH_TOKEN";

/// Where this load balancer answers itself.
const PAGES: &str = "/_gcp_iap/";

/// Who vouches for clients.
const ISSUER: &str = "https://cloud.google.com/iap";

/// Whom a client's own token is for: the load balancer.
const OWN: &str = "kswitch:iap-session";

/// For how long a client is known, and for how long a backend may believe what it is told.
const SESSION: Duration = Duration::from_hours(1);
const ASSERTED: Duration = Duration::from_mins(10);

/// By how much clocks may differ.
const SKEW: u64 = 30;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who says so.
    pub iss: String,
    /// Whom it is for.
    pub aud: String,
    /// Who the client is, for machines.
    pub sub: String,
    /// And for people.
    pub email: String,
    /// Since when, in seconds of Unix.
    pub iat: u64,
    /// Until when.
    pub exp: u64,
}

/// The key with which tokens are signed; a lab's own.
#[derive(Debug)]
pub struct Signer {
    key: EcdsaKeyPair,
    random: SystemRandom,
    name: String,
}

impl Signer {
    /// A new key.
    ///
    /// # Errors
    /// The machine has no random numbers.
    pub fn new() -> Result<Self, ring::error::Unspecified> {
        let random = SystemRandom::new();
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::generate_pkcs8(curve, &random)?;
        let key = EcdsaKeyPair::from_pkcs8(curve, pair.as_ref(), &random)
            .map_err(|_| ring::error::Unspecified)?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        let name = BASE64.encode(digest.as_ref().get(..6).unwrap_or_default());
        Ok(Self { key, random, name })
    }

    /// A signed token.
    ///
    /// Source: RFC 7515, 7.1; RFC 7518, 3.4.
    fn sign(&self, claims: &Claims) -> Option<String> {
        let head = json!({ "alg": "ES256", "typ": "JWT", "kid": self.name });
        let head = BASE64.encode(head.to_string());
        let said = format!("{head}.{}", BASE64.encode(serde_json::to_vec(claims).ok()?));
        let signature = self.key.sign(&self.random, said.as_bytes()).ok()?;
        Some(format!("{said}.{}", BASE64.encode(signature)))
    }

    /// What a token says, if it is ours, for this audience, and of now.
    fn verify(&self, token: &str, audience: &str, now: u64) -> Option<Claims> {
        let (said, signature) = token.rsplit_once('.')?;
        let signature = BASE64.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key());
        key.verify(said.as_bytes(), &signature).ok()?;
        let (_, claims) = said.split_once('.')?;
        let claims: Claims = serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()?;
        let is_good = claims.aud == audience && claims.iat <= now + SKEW && now < claims.exp;
        is_good.then_some(claims)
    }

    /// The public key, for those who want to judge tokens.
    ///
    /// Source: RFC 7517; RFC 7518, 6.2.
    fn public(&self) -> serde_json::Value {
        // an uncompressed point: a mark, then both coordinates
        let point = self.key.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at_checked(point.len() / 2).unwrap_or_default();
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.name,
            "x": BASE64.encode(x), "y": BASE64.encode(y),
        }] })
    }

    fn claims(audience: &str, email: &str, now: u64, lasts: Duration) -> Claims {
        let digest = ring::digest::digest(&ring::digest::SHA256, email.as_bytes());
        let mut number = [0; 8];
        number.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Claims {
            iss: ISSUER.to_owned(),
            aud: audience.to_owned(),
            sub: format!("accounts.google.com:{}", u64::from_be_bytes(number)),
            email: email.to_owned(),
            iat: now,
            exp: now + lasts.as_secs(),
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Lets a client through that says who it is, and tells the backend; others get an answer.
///
/// # Errors
/// A refusal of what cannot be sent elsewhere.
pub(super) fn gate(
    going: Going<'_>,
    audience: &Arc<str>,
    parts: &mut Parts,
    way: &mut Way,
) -> Result<Option<Response<Body>>, Refusal> {
    let signer = going.client.shared.signer.as_ref();
    let Some(signer) = signer else {
        return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "no tokens can be signed"));
    };
    // nobody says this but we
    for name in [ASSERTION, EMAIL, ID] {
        parts.headers.remove(name);
    }
    let now = now();
    let known = tokens(&parts.headers).find_map(|token| signer.verify(&token, OWN, now));
    if let Some(page) = parts.uri.path().strip_prefix(PAGES) {
        way.reason = Some("handled_by_identity_aware_proxy");
        return Ok(Some(answer(signer, going, page, parts, known.as_ref(), now)));
    }
    let Some(known) = known else {
        let is_script =
            parts.headers.get("x-requested-with").is_some_and(|by| by == "XMLHttpRequest");
        if is_script || super::request::is_grpc(&parts.headers) {
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "the client does not say who it is",
            ));
        }
        way.reason = Some("redirected_by_identity_aware_proxy");
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let query =
            form_urlencoded::Serializer::new(String::new()).append_pair("continue", path).finish();
        let to = format!("{}://{}{PAGES}login?{query}", going.client.scheme, going.field);
        return Ok(Some(sent(&to, None)));
    };
    let claims = Signer::claims(audience, &known.email, now, ASSERTED);
    let assertion = signer.sign(&claims).unwrap_or_default();
    let email = format!("accounts.google.com:{}", claims.email);
    for (name, value) in [(ASSERTION, &assertion), (EMAIL, &email), (ID, &claims.sub)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            parts.headers.insert(name, value);
        }
    }
    way.user = Some(claims.email);
    Ok(None)
}

/// Tokens that a request has.
fn tokens(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let fields = [header::PROXY_AUTHORIZATION, header::AUTHORIZATION];
    let fields = fields.into_iter().filter_map(|name| headers.get(name)?.to_str().ok());
    let bearers = fields.filter_map(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    bearers.chain(super::head::cookie(headers, COOKIE))
}

/// What stands below [`PAGES`].
fn answer(
    signer: &Signer,
    going: Going<'_>,
    page: &str,
    parts: &Parts,
    known: Option<&Claims>,
    now: u64,
) -> Response<Body> {
    let query = parts.uri.query().unwrap_or("");
    let parameter = |wanted: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
    };
    let lasts = SESSION.as_secs();
    let secure = if going.client.scheme == "https" { "; Secure" } else { "" };
    match page {
        "login" => {
            // elsewhere than on this host nobody is sent
            let is_here = |path: &String| {
                path.starts_with('/') && !path.starts_with("//") && !path.contains('\\')
            };
            let back = parameter("continue").filter(is_here).unwrap_or_else(|| "/".to_owned());
            let Some(email) = parameter("email").filter(|email| email.contains('@')) else {
                return login(&back);
            };
            let token = signer.sign(&Signer::claims(OWN, &email, now, SESSION));
            let token = token.unwrap_or_default();
            let cookie = format!(
                "{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={lasts}{secure}"
            );
            sent(&back, Some(&cookie))
        }
        "clear_login_cookie" => {
            sent("/", Some(&format!("{COOKIE}=; Path=/; HttpOnly; Max-Age=0{secure}")))
        }
        "public_key-jwk" => told(StatusCode::OK, &signer.public()),
        "identity" => match known {
            Some(Claims { email, sub, .. }) => {
                told(StatusCode::OK, &json!({ "email": email, "sub": sub }))
            }
            None => told(StatusCode::UNAUTHORIZED, &json!({ "error": "no identity" })),
        },
        _ => told(StatusCode::NOT_FOUND, &json!({ "error": "no such page" })),
    }
}

fn login(back: &str) -> Response<Body> {
    let escaped = back.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let page = format!(
        "<!doctype html><title>Sign in</title><form action=\"{PAGES}login\">\
         <input name=email type=email placeholder=you@lab.example autofocus required>\
         <input name=continue type=hidden value=\"{escaped}\"><button>Sign in</button></form>\n"
    );
    let mut response = Response::new(full(page));
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn told(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full(format!("{value}\n")));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn sent(to: &str, cookie: Option<&str>) -> Response<Body> {
    let mut response = Response::new(super::request::empty());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    for (name, value) in [(header::LOCATION, Some(to)), (header::SET_COOKIE, cookie)] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_for_its_audience_and_its_time() {
        let signer = Signer::new().unwrap();
        let claims = Signer::claims("here", "ada@lab.example", 1_000, Duration::from_mins(1));
        let token = signer.sign(&claims).unwrap();
        assert_eq!(signer.verify(&token, "here", 1_010), Some(claims));
        assert_eq!(signer.verify(&token, "there", 1_010), None, "another audience");
        assert_eq!(signer.verify(&token, "here", 1_060), None, "too late");
        assert_eq!(signer.verify(&token, "here", 900), None, "too early");
        let other = Signer::new().unwrap();
        assert_eq!(other.verify(&token, "here", 1_010), None, "somebody else's");
        let (said, signature) = token.rsplit_once('.').unwrap();
        let (head, _) = said.split_once('.').unwrap();
        let lie =
            BASE64.encode(r#"{"iss":"","aud":"here","sub":"","email":"x@y","iat":0,"exp":9999}"#);
        let forged = format!("{head}.{lie}.{signature}");
        assert_eq!(signer.verify(&forged, "here", 1_010), None, "changed on its way");
        // without a signature nothing is believed
        let none = format!("{}.{lie}.", BASE64.encode(r#"{"alg":"none"}"#));
        assert_eq!(signer.verify(&none, "here", 1_010), None);
    }

    #[test]
    fn the_public_key_is_told_as_two_coordinates() {
        let public = Signer::new().unwrap().public();
        for coordinate in ["x", "y"] {
            let text = public["keys"][0][coordinate].as_str().unwrap();
            assert_eq!(BASE64.decode(text).unwrap().len(), 32);
        }
    }
}
