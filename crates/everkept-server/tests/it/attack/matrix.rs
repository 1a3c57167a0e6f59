//! Host x Origin x credential x method x route: promises A1 and A2.

use super::{filled, house::House};
use crate::line::{Answer, Line, PORT};
use everkept_server::route_table;
use std::collections::{BTreeMap, BTreeSet};

const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "DANCE"];

/// One way to be let in, or not.
struct Credential {
    headers: String,
    good: bool,
    /// A cookie without the header that our own page adds.
    only_reads: bool,
}

async fn credentials(house: &House) -> Vec<Credential> {
    let refused = |headers: String| Credential { headers, good: false, only_reads: false };
    let admin = house.admin.clone();
    let secret = admin.trim_end().rsplit_once(' ').unwrap().1.to_owned();
    let cookie = house.cookie().await;
    let mut all = vec![
        refused(String::new()),
        refused("authorization: Bearer ek_wrong\r\n".into()),
        refused("authorization: Bearer \r\n".into()),
        refused(format!("authorization: Basic {secret}\r\n")),
        refused(format!("authorization: {secret}\r\n")),
        refused(format!("{admin}{admin}")),
        refused(format!("cookie: everkept={secret}\r\n")),
        refused(format!("authorization: Bearer ek_wrong\r\n{cookie}x-everkept: 1\r\n")),
        refused(format!("authorization: Bearer {}\r\n", cookie.trim().split_once('=').unwrap().1)),
        refused(super::house::bearer(&house.code().await)),
        refused(house.expired().await),
        refused(house.revoked().await),
        refused(house.of_a_later_kind().await),
    ];
    all.push(Credential { headers: admin, good: true, only_reads: false });
    all.push(Credential { headers: format!("{cookie}x-everkept: 1\r\n"), good: true, only_reads: false });
    all.push(Credential { headers: cookie, good: true, only_reads: true });
    all
}

/// (Host headers, what stands before the path, whether it is ours)
fn hosts() -> Vec<(String, &'static str, bool)> {
    let good = format!("host: 127.0.0.1:{PORT}\r\n");
    vec![
        (good.clone(), "", true),
        (format!("host: LOCALHOST:{PORT}\r\n"), "", true),
        (format!("host: [::1]:{PORT}\r\n"), "", true),
        ("host: evil.example\r\n".into(), "", false),
        (format!("host: evil.example:{PORT}\r\n"), "", false),
        ("host: 127.0.0.1\r\n".into(), "", false),
        ("host: \r\n".into(), "", false),
        (String::new(), "", false),
        (format!("{good}{good}"), "", false),
        (format!("{good}host: evil.example\r\n"), "", false),
        (good, "http://evil.example", false),
    ]
}

/// (Origin headers, whether one of our own pages has them); `SELF` stands for the Host.
const ORIGINS: [(&str, bool); 9] = [
    ("", true),
    ("origin: http://SELF\r\n", true),
    ("sec-fetch-site: same-origin\r\n", true),
    ("origin: http://evil.example\r\n", false),
    ("origin: https://SELF\r\n", false),
    ("origin: null\r\n", false),
    ("origin: http://SELF\r\norigin: http://evil.example\r\n", false),
    ("sec-fetch-site: cross-site\r\n", false),
    ("sec-fetch-site: same-site\r\n", false),
];

/// The routes of the table: which methods each path takes.
fn paths() -> BTreeMap<String, BTreeSet<String>> {
    let mut paths: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (method, path) in route_table() {
        let methods = paths.entry(path).or_default();
        if method == "GET" {
            methods.insert("HEAD".into());
        }
        methods.insert(method);
    }
    paths
}

/// What needs no credential: the login page, and the empty health answer.
fn is_open(path: &str, method: &str, credential: &str) -> bool {
    let reads = matches!(method, "GET" | "HEAD");
    match path {
        "/login" => reads || method == "POST",
        "/login.js" | "/login.css" => reads,
        "/api/health" => reads && credential.is_empty(),
        _ => false,
    }
}

/// One point of the matrix.
struct Point<'a> {
    path: &'a str,
    takes: &'a BTreeSet<String>,
    method: &'a str,
    host: &'a (String, &'static str, bool),
    origin: &'a (&'static str, bool),
    credential: &'a Credential,
}

impl Point<'_> {
    async fn ask(&self, line: &mut Line) -> Answer {
        let own = self.host.0.lines().next().unwrap_or_default().trim_start_matches("host: ").to_ascii_lowercase();
        let headers = format!("{}{}{}", self.host.0, self.origin.0.replace("SELF", &own), self.credential.headers);
        line.send(self.method, &format!("{}{}", self.host.1, filled(self.path)), &headers, b"").await
    }

    fn check(&self, answer: &Answer) {
        let here =
            format!("{} {}{} {:?} {:?} {:?}", self.method, self.host.1, self.path, self.host.0, self.origin.0, self.credential.headers);
        let said = format!("{here}: {} {}", answer.status, answer.text());
        let reads = matches!(self.method, "GET" | "HEAD");
        let refused = |status: u16, code: &str| {
            assert_eq!(answer.status, status, "{said}");
            assert!(self.method == "HEAD" || answer.text().contains(&format!("\"code\":\"{code}\"")), "{said}");
        };
        // What is no HTTP is refused before it is ours.
        if answer.status == 400 && answer.body.is_empty() {
            return assert!(!self.host.2, "{said}");
        }
        for (name, value) in [("x-content-type-options", "nosniff"), ("cache-control", "no-store"), ("referrer-policy", "no-referrer")] {
            assert_eq!(answer.header(name), Some(value), "{said}");
        }
        if !self.host.2 {
            refused(421, "host_refused");
        } else if !self.origin.1 {
            refused(403, "origin_refused");
        } else if is_open(self.path, self.method, &self.credential.headers) {
            assert!(matches!(answer.status, 200 | 422), "{said}");
        } else if !self.credential.good {
            refused(401, "unauthorized");
        } else if self.credential.only_reads && !reads {
            refused(403, "forbidden");
        } else if !self.takes.contains(self.method) {
            refused(405, "method_not_allowed");
        } else {
            assert!(!matches!(answer.status, 0 | 401 | 403 | 405 | 421 | 500..), "{said}");
        }
    }
}

#[tokio::test]
async fn a2_host_then_origin_then_credential_on_every_route() {
    let house = House::start().await;
    let (hosts, credentials) = (hosts(), credentials(&house).await);
    let mut line = Line::new(&house.server);
    let mut asked = 0;
    for (path, takes) in &paths() {
        for method in METHODS {
            for host in &hosts {
                for origin in &ORIGINS {
                    for credential in &credentials {
                        let point = Point { path, takes, method, host, origin, credential };
                        // All of it for the methods a path takes; for the others one good and one bad Host and Origin.
                        let one_of_each = [&hosts[0], &hosts[3]].contains(&host) && [&ORIGINS[0], &ORIGINS[3]].contains(&origin);
                        if takes.contains(method) && method != "HEAD" || one_of_each {
                            point.check(&point.ask(&mut line).await);
                            asked += 1;
                        }
                    }
                }
            }
        }
    }
    println!("{asked} requests on {} paths", paths().len());
}

#[tokio::test]
async fn a1_without_a_credential_nothing_but_an_empty_health_answer_is_served() {
    let house = House::start().await;
    let mut line = Line::new(&house.server);
    let host = format!("host: localhost:{PORT}\r\n");
    let mut routes: Vec<(String, String)> =
        paths().keys().flat_map(|path| METHODS.map(|method| (method.to_owned(), filled(path)))).collect();
    routes.extend(odd_paths().into_iter().flat_map(|path| METHODS.map(|method| (method.to_owned(), path.clone()))));
    let refusal = line.send("GET", "/nowhere", &host, b"").await;
    assert_eq!((refusal.status, refusal.json()["error"]["code"].as_str()), (401, Some("unauthorized")));
    for (method, path) in routes {
        let answer = line.send(&method, &path, &host, b"").await;
        let said = format!("{method} {path:.100}: {} {}", answer.status, answer.text());
        if path == "/api/health" && matches!(method.as_str(), "GET" | "HEAD") {
            assert_eq!((answer.status, answer.body.len()), (200, 0), "{said}");
        } else if is_open(&path, &method, "") {
            assert!(matches!(answer.status, 200 | 422), "{said}");
            assert!(!answer.text().contains("ses_") && !answer.text().contains("demo"), "{said}");
        } else if matches!(answer.status, 414 | 431) {
            assert!(path.len() > 30_000, "{said}");
        } else if path.starts_with("/v1/") || method == "HEAD" {
            assert_eq!(answer.status, 401, "{said}");
        } else {
            assert_eq!(answer, refusal, "{method} {path:.100}: one refusal for everything that is and is not there");
        }
    }
    assert_eq!(line.as_client(&house.admin, "GET", "/api/health", None).await.json()["status"], "ok");
    assert_eq!(line.as_client("authorization: Bearer ek_wrong\r\n", "GET", "/api/health", None).await.status, 401);
}

/// Paths that are nearly one of ours.
fn odd_paths() -> Vec<String> {
    let mut odd: Vec<String> = [
        "/api/sessions/",
        "//api/sessions",
        "/api//sessions",
        "/api/sessions//",
        "/./api/sessions",
        "/api/./sessions",
        "/api/x/../sessions",
        "/api/sessions/%2e%2e/tokens",
        "/api/health/",
        "/api/health/../tokens",
        "/api/health/%2e%2e/tokens",
        "/api/health%2f..%2ftokens",
        "/api/health%00",
        "/api/health;x=1",
        "/login/",
        "/login/../api/tokens",
        "/login%2f..%2fapi%2ftokens",
        "/login;/api/tokens",
        "/%6cogin",
        "/%61pi/tokens",
        "/api%2ftokens",
        "/API/tokens",
        "/api/tokens%20",
        "/api/tokens%00",
        "/api/tokens.json",
        "/api\\tokens",
        "/sw.js/",
        "/sw.js/../api/tokens",
        "/index.html",
        "/v1/../api/tokens",
        "/v1%2fmodels",
        "/..%2f..%2fetc%2fpasswd",
        "/%ff%fe",
        "/%",
        "/%zz",
    ]
    .map(str::to_owned)
    .into();
    odd.extend([format!("/{}", "a".repeat(40_000)), format!("/{}", "a/".repeat(20_000)), format!("/api/health/{}", "a".repeat(70_000))]);
    odd
}

#[tokio::test]
async fn a2_a_path_that_is_nearly_one_of_ours_is_none() {
    let house = House::start().await;
    let mut line = Line::new(&house.server);
    let ann = house.token("resource", "ann").await;
    for path in odd_paths() {
        for method in METHODS {
            for credential in [&house.admin, &ann] {
                let answer = line.as_client(credential, method, &path, None).await;
                let said = format!("{method} {path:.100}: {} {}", answer.status, answer.text());
                assert!(matches!(answer.status, 400 | 404 | 405 | 414 | 431), "{said}");
                assert!(!answer.text().contains("secret") && !answer.text().contains("root:"), "{said}");
            }
        }
    }
    // Names with anything in them are names, and nothing else.
    for (written, name) in [("a%2Fb", "a/b"), ("%2e%2e", ".."), ("..", ".."), ("%252e", "%2e"), ("ses_1", "ses_1")] {
        let answer = line
            .as_client(&house.admin, "POST", &format!("/api/threads/{written}/t/turns"), Some(&serde_json::json!({ "input": "x" })))
            .await;
        assert_eq!(answer.status, 202, "{written}: {}", answer.text());
        let session = format!("/api/sessions/{}", answer.json()["session"].as_str().unwrap());
        assert_eq!(line.as_client(&house.admin, "GET", &session, None).await.json()["resource"], name, "{written}");
    }
}
