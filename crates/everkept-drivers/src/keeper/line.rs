//! The socket between a keeper and its server, as the keeper has it: frames in and out, and never a wait.
//!
//! Never: a frame cut short by this side.

use super::{BUFFER, frame::ToServer};
use bytes::{Buf, BytesMut};
use std::{
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
};

/// The server's end of the socket.
pub struct Line {
    pub stream: UnixStream,
    pub incoming: BytesMut,
    pub outgoing: BytesMut,
}

/// The one that the server gave this process for its input.
pub fn to_server() -> io::Result<UnixStream> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

impl Line {
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, incoming: BytesMut::new(), outgoing: BytesMut::new() })
    }

    pub fn say(&mut self, word: &ToServer) {
        word.write(&mut self.outgoing);
    }

    /// As much as goes. That nobody is there shows by itself.
    pub fn write(&mut self) {
        while !self.outgoing.is_empty()
            && let Ok(length @ 1..) = self.stream.write(&self.outgoing)
        {
            self.outgoing.advance(length);
        }
    }

    /// None when there is nothing now, zero at the end.
    pub fn read(&mut self) -> io::Result<Option<usize>> {
        let mut buffer = [0; BUFFER];
        match self.stream.read(&mut buffer) {
            Ok(length) => {
                self.incoming.extend_from_slice(&buffer[..length]);
                Ok(Some(length))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
