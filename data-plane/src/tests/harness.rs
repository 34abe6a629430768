//! A proxy to test and a client that says exactly what it wants.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use tonic::transport::Endpoint;

use crate::{
    Config, DataPlane,
    config::{Control, Limits, Management, Stdio, Timeouts},
};

/// Values of a proxy on a free port that nobody configures.
pub(super) fn config() -> Config {
    Config {
        data_dir: tempfile::tempdir().unwrap().keep(),
        listeners: vec![TcpListener::bind("127.0.0.1:0").unwrap()],
        ops_listeners: vec![],
        advertise_address: String::new(),
        control: Control::Remote {
            address: "http://127.0.0.1:1".parse().unwrap(),
            join_token: None,
        },
        management: Management::Off,
        stdio: Stdio::Refused,
        allowed_hosts: vec![],
        allowed_origins: vec![],
        trusted_proxies: vec![],
        root_path: String::new(),
        limits: Limits::default(),
        timeouts: Timeouts {
            head: Duration::from_millis(300),
            idle: Duration::from_millis(600),
            drain: Duration::from_secs(5),
            ..Timeouts::default()
        },
        threads: 2,
    }
}

/// A connection that a test writes to byte by byte.
pub(super) struct Connection(pub(super) TcpStream);

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(stream)
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Head and body of one answer with a length.
    pub(super) fn answer(&mut self) -> (String, String) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            assert_eq!(self.0.read(&mut byte).unwrap(), 1, "closed after {head:?}");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// Everything until the proxy closes.
    pub(super) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).ok();
        String::from_utf8(rest).unwrap()
    }
}

/// One request on a connection of its own: head and body of the answer.
pub(super) fn ask(proxy: &DataPlane, request: impl AsRef<[u8]>) -> (String, String) {
    let mut connection = Connection::open(proxy.addresses()[0]);
    connection.send(request);
    connection.answer()
}
