//! A stand-in for the registers of reissued numbers: an operator's CAMARA API with its token server, and the FCC's database. It speaks
//! as theirs do, records what it is asked, and can be told to fail.

#![allow(dead_code, reason = "each test file uses its part")]
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{FromRequest, Request, State},
    http::{Response, StatusCode},
    routing::any,
};
use serde_json::{Value, json};
use waymark_runtime::listen::{self, Capped, Server};

/// How it fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Not at all.
    #[default]
    Well,
    /// Every status is this one, without a body.
    Status(u16),
    /// 200, and no JSON.
    Garbage,
    /// 200, and more than anybody wants to read.
    Endless,
    /// No answer for a minute.
    Slow,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub authorization: String,
    pub body: String,
}

#[derive(Default)]
struct Inner {
    mood: Mood,
    /// What is said of a number, `None` for "not known": by E.164 without its plus.
    numbers: HashMap<String, bool>,
    calls: Vec<Call>,
    /// Tokens given out; the last one is good.
    tokens: u32,
}

/// The stand-in, running.
pub struct Registers {
    inner: Arc<Mutex<Inner>>,
    server: Server,
}

impl Registers {
    pub async fn start() -> Self {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let router = Router::new().fallback(any(answer)).with_state(Arc::clone(&inner));
        let listener = listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        Self { inner, server: listen::serve(listener, router).unwrap() }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn set(&self, mood: Mood) {
        self.inner.lock().unwrap().mood = mood;
    }

    /// From here on this is what is known of a number.
    pub fn says(&self, number: &str, recycled: bool) {
        self.inner.lock().unwrap().numbers.insert(number.trim_start_matches('+').to_owned(), recycled);
    }

    /// The tokens given out so far are good no more.
    pub fn end_tokens(&self) {
        self.inner.lock().unwrap().tokens += 1;
    }

    /// What was asked since the last time.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.inner.lock().unwrap().calls)
    }

    pub async fn stop(self) {
        self.server.stop().await;
    }
}

fn json_answer(status: u16, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

async fn answer(State(inner): State<Arc<Mutex<Inner>>>, request: Request) -> Response<Body> {
    let path = request.uri().to_string();
    let authorization = request.headers().get("authorization").map(|v| v.to_str().unwrap().to_owned());
    let authorization = authorization.unwrap_or_default();
    let body = Capped::<65536>::from_request(request, &()).await.unwrap();
    let body = String::from_utf8(body.0.to_vec()).unwrap();
    let mood = {
        let mut inner = inner.lock().unwrap();
        let call = Call { path: path.clone(), authorization: authorization.clone(), body: body.clone() };
        inner.calls.push(call);
        inner.mood
    };
    match mood {
        Mood::Well => inner.lock().unwrap().well(&path, &authorization, &body),
        Mood::Status(status) => json_answer(status, &json!({})),
        Mood::Garbage => Response::new(Body::from("<html>Have a nice day</html>")),
        Mood::Endless => Response::new(Body::from(vec![b' '; 1 << 20])),
        Mood::Slow => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            json_answer(200, &json!({}))
        }
    }
}

impl Inner {
    fn well(&mut self, path: &str, authorization: &str, body: &str) -> Response<Body> {
        match path {
            // waymark:s3cret
            "/token" if authorization == "Basic d2F5bWFyazpzM2NyZXQ=" && body.contains("client_credentials") => {
                self.tokens += 1;
                let token = format!("token{}", self.tokens);
                json_answer(200, &json!({"access_token": token, "token_type": "Bearer", "expires_in": 300}))
            }
            "/token" => json_answer(401, &json!({"error": "invalid_client"})),
            "/number-recycling/v0.2/check" => self.check(authorization, body),
            "/b/public/api/idToken" if body == r#"{"refreshToken":"s3cret"}"# => {
                self.tokens += 1;
                json_answer(200, &json!({"idToken": format!("id{}", self.tokens)}))
            }
            "/b/public/api/idToken" => json_answer(403, &json!({"message": "Forbidden"})),
            "/api/tn" => self.telephone_number(authorization, body),
            _ => json_answer(404, &json!({"message": "no such path"})),
        }
    }

    fn check(&self, authorization: &str, body: &str) -> Response<Body> {
        if authorization != format!("Bearer token{}", self.tokens) {
            return json_answer(401, &json!({"status": 401, "code": "UNAUTHENTICATED", "message": "..."}));
        }
        let asked: Value = serde_json::from_str(body).unwrap();
        let number = asked["phoneNumber"].as_str().unwrap().strip_prefix('+').unwrap();
        assert!(
            asked["specifiedDate"].as_str().is_some_and(|d| d.len() == 10) && asked.as_object().unwrap().len() == 2
        );
        match self.numbers.get(number) {
            Some(recycled) => json_answer(200, &json!({"phoneNumberRecycled": recycled})),
            None => json_answer(404, &json!({"status": 404, "code": "IDENTIFIER_NOT_FOUND", "message": "..."})),
        }
    }

    fn telephone_number(&self, authorization: &str, body: &str) -> Response<Body> {
        if authorization != format!("id{}", self.tokens) {
            return json_answer(401, &json!({"message": "Unauthorized"}));
        }
        let asked: Value = serde_json::from_str(body).unwrap();
        let asked = &asked["tnList"][0];
        let tn = asked["tn"].as_str().unwrap();
        assert_eq!((tn.len(), asked["companyId"].as_str()), (10, Some("WAYMARK")));
        let disconnected = match self.numbers.get(&format!("1{tn}")) {
            Some(true) => "yes",
            Some(false) => "no",
            None => "no_data",
        };
        let reply = json!({"tn": tn, "disconnected": disconnected, "dateProvided": asked["date"]});
        json_answer(200, &json!({"replies": [reply]}))
    }
}
