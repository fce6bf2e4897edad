//! The page behind a link in a mail: static, the same for every link.
//!
//! A link is `<url>/confirm#<challenge>.<secret>`. Browsers do not send what follows the `#`, so a mail scanner that fetches
//! the link learns and changes nothing, and the secret stands in no log. The page's own script hands it in by POST, and only
//! when somebody presses the button: scanners that run scripts press none. Nothing is loaded from elsewhere.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, header},
};

/// Own files, own requests, and nobody puts the page into a frame to have its button pressed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

fn respond(media_type: &'static str, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    let set = [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in set {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// GET /confirm
pub async fn page() -> Response<Body> {
    respond("text/html; charset=utf-8", include_str!("confirm/page.html"))
}

/// GET /confirm.js
pub async fn script() -> Response<Body> {
    respond("text/javascript; charset=utf-8", include_str!("confirm/page.js"))
}

/// GET /confirm.css
pub async fn style() -> Response<Body> {
    respond("text/css; charset=utf-8", include_str!("confirm/page.css"))
}
