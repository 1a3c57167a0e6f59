//! HTTP/1.1 by hand, over a pipe into the server: what no client library would say is said byte for byte.
//!
//! Never: a header added, a request mended, or an answer read past its end.

use everkept_server::Server;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// The port that clients name, as nobody listens.
pub const PORT: u16 = 7070;
const PIPE: usize = 64 * 1024;

/// One connection, made anew whenever the server has closed it.
pub struct Line {
    server: Server,
    stream: Option<DuplexStream>,
    read: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// In the order of their names, `date` left out.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    pub fn is_stream(&self) -> bool {
        self.header("content-type") == Some("text/event-stream")
    }
}

impl Line {
    pub fn new(server: &Server) -> Line {
        Line { server: server.clone(), stream: None, read: Vec::new() }
    }

    /// Sends it and reads the answer; of a stream of events only its head, after which the connection is dropped. None:
    /// it was closed without an answer, and not because it had been idle before.
    pub async fn ask(&mut self, request: &[u8]) -> Option<Answer> {
        if let Some(held) = self.stream.take()
            && let Some(answer) = self.ask_on(held, request).await
        {
            return Some(answer);
        }
        let fresh = self.connect();
        self.ask_on(fresh, request).await
    }

    async fn ask_on(&mut self, stream: DuplexStream, request: &[u8]) -> Option<Answer> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        // A refusal may come before all is sent.
        let (answered, sent) = {
            let mut answering = std::pin::pin!(answer(&mut reader, &mut self.read, request.starts_with(b"HEAD ")));
            tokio::select! {
                answered = &mut answering => (answered, false),
                sent = writer.write_all(request) => (answering.await, sent.is_ok()),
            }
        };
        let answered = answered?;
        if sent && !answered.is_stream() && answered.header("connection") != Some("close") && answered.status != 101 {
            self.stream = Some(reader.unsplit(writer));
        } else {
            self.read.clear();
        }
        Some(answered)
    }

    /// The same by its parts; `headers` as they are written, each with its end of line.
    pub async fn send(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
        let mut request = format!("{method} {target} HTTP/1.1\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
        request.extend_from_slice(body);
        self.ask(&request).await.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(&request)))
    }

    /// A request as a client of good will makes it.
    pub async fn as_client(&mut self, credential: &str, method: &str, target: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string).unwrap_or_default();
        let headers = format!("host: localhost:{PORT}\r\n{credential}content-type: application/json\r\n");
        self.send(method, target, &headers, body.as_bytes()).await
    }

    fn connect(&mut self) -> DuplexStream {
        self.read.clear();
        let (client, io) = tokio::io::duplex(PIPE);
        let server = self.server.clone();
        tokio::spawn(async move { server.serve_connection(io).await });
        client
    }
}

/// One answer out of a connection; `read` is what was read of it and not used yet.
pub async fn answer(stream: &mut (impl AsyncReadExt + Unpin), read: &mut Vec<u8>, to_head: bool) -> Option<Answer> {
    let (status, headers) = loop {
        let end = loop {
            match read.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => more(stream, read).await?,
            }
        };
        let (status, headers) = head(&read.drain(..end).collect::<Vec<u8>>());
        // "Go on sending" is not the answer yet.
        if status != 100 {
            break (status, headers);
        }
    };
    let mut answer = Answer { status, headers, body: Vec::new() };
    if to_head || matches!(status, 101 | 204 | 304) || answer.is_stream() {
        return Some(answer);
    }
    if let Some(length) = answer.header("content-length") {
        let length: usize = length.parse().unwrap();
        while read.len() < length {
            more(stream, read).await?;
        }
        answer.body = read.drain(..length).collect();
    } else if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = chunks(stream, read).await?;
    } else {
        while more(stream, read).await.is_some() {}
        answer.body = std::mem::take(read);
    }
    Some(answer)
}

fn head(bytes: &[u8]) -> (u16, Vec<(String, String)>) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let mut headers: Vec<_> = headers.filter(|(name, _)| name != "date").collect();
    headers.sort();
    (status, headers)
}

async fn chunks(stream: &mut (impl AsyncReadExt + Unpin), read: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            match read.windows(2).position(|two| two == b"\r\n") {
                Some(end) => break end,
                None => more(stream, read).await?,
            }
        };
        let length = usize::from_str_radix(std::str::from_utf8(&read[..end]).unwrap(), 16).unwrap();
        while read.len() < end + 2 + length + 2 {
            more(stream, read).await?;
        }
        body.extend_from_slice(&read[end + 2..end + 2 + length]);
        read.drain(..end + 2 + length + 2);
        if length == 0 {
            return Some(body);
        }
    }
}

/// None at the end.
async fn more(stream: &mut (impl AsyncReadExt + Unpin), read: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 16 * 1024];
    let length = stream.read(&mut piece).await.unwrap_or(0);
    read.extend_from_slice(&piece[..length]);
    (length > 0).then_some(())
}
