//! A session's events from some number on, live, over as many connections as it takes.
//!
//! Never: an event twice, or one left out. A broken connection is begun again after the last event that was handed out.

use super::{Client, ClientError, SseReader, segment};
use crate::Event;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use reqwest::{Method, header};
use std::collections::VecDeque;

pub struct Follow {
    client: Client,
    path: String,
    last: u64,
    connection: Option<Connection>,
    ready: VecDeque<Event>,
}

struct Connection {
    bytes: BoxStream<'static, reqwest::Result<Bytes>>,
    reader: SseReader,
    /// It has brought something, so that beginning it again gets further.
    brought: bool,
}

impl Client {
    /// Follows a session from the first event after `after`; nothing is sent before the first [`Follow::next`].
    pub fn follow(&self, session: &str, after: u64) -> Follow {
        let path = format!("/api/sessions/{}/events", segment(session));
        Follow { client: self.clone(), path, last: after, connection: None, ready: VecDeque::new() }
    }
}

impl Follow {
    /// The number of the last event handed out.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Waits for the next event. After an error, calling again connects again; how long to wait before is the caller's
    /// to say. Safe to drop while it waits.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.last = event.seq;
                return Ok(event);
            }
            if self.connection.is_none() {
                self.connection = Some(self.connect().await?);
            }
            let Some(connection) = &mut self.connection else { continue };
            match connection.bytes.next().await {
                Some(Ok(bytes)) => {
                    connection.brought = true;
                    let read = connection.reader.push(&bytes);
                    self.take(read)?;
                }
                Some(Err(_)) | None if connection.brought => self.connection = None,
                Some(Err(_)) | None => {
                    self.connection = None;
                    return Err(ClientError::CutOff { address: self.client.address().to_owned() });
                }
            }
        }
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let request = self.client.request(Method::GET, &self.path, &[]);
        let request = request.header(header::ACCEPT, "text/event-stream").header("last-event-id", self.last.to_string());
        let response = self.client.send(request, false).await?;
        Ok(Connection { bytes: response.bytes_stream().boxed(), reader: SseReader::default(), brought: false })
    }

    fn take(&mut self, read: Vec<super::Sse>) -> Result<(), ClientError> {
        for frame in read {
            let event: Event = serde_json::from_str(&frame.data)
                .map_err(|source| ClientError::Unreadable { address: self.client.address().to_owned(), source })?;
            if event.seq > self.ready.back().map_or(self.last, |event| event.seq) {
                self.ready.push_back(event);
            }
        }
        Ok(())
    }
}
