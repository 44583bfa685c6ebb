//! A blocking HTTP/1.1 client that keeps its connection and reads whole answers.

use anyhow::{Context as _, Result, bail};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer.
const BODY_MAX_BYTES: usize = 64 * 1024 * 1024;

/// One kept connection.
#[derive(Debug)]
pub(crate) struct Http {
    host: String,
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Http {
    /// Connects to `http://host:port`.
    pub(crate) fn connect(url: &str) -> Result<Self> {
        let host = url.strip_prefix("http://").with_context(|| format!("{url:?} is not http://host:port"))?;
        let stream = TcpStream::connect(host).with_context(|| format!("connecting to {host}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let stream = BufReader::with_capacity(256 * 1024, stream);
        Ok(Self { host: host.to_owned(), stream, body: Vec::new() })
    }

    /// Gets a resource as a user; the body of its answer with status 200.
    pub(crate) fn get(&mut self, path: &str, user: &str) -> Result<&[u8]> {
        let host = &self.host;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Hearth-User: {user}\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        let mut length = None;
        let mut chunked = false;
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse().context("a content-length that is no number")?);
            }
            chunked |= name.eq_ignore_ascii_case("transfer-encoding");
        }
        self.body.clear();
        match length {
            Some(length) => self.read(length)?,
            None if chunked => self.read_chunks()?,
            None => bail!("an answer without a length"),
        }
        if status.split(' ').nth(1) != Some("200") {
            bail!("GET {path}: {status}: {}", String::from_utf8_lossy(&self.body));
        }
        Ok(&self.body)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the server closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }

    fn read(&mut self, length: usize) -> Result<()> {
        let begin = self.body.len();
        if begin + length > BODY_MAX_BYTES {
            bail!("an answer of over {BODY_MAX_BYTES} bytes");
        }
        self.body.resize(begin + length, 0);
        Ok(self.stream.read_exact(&mut self.body[begin..])?)
    }

    fn read_chunks(&mut self) -> Result<()> {
        loop {
            let length = usize::from_str_radix(&self.line()?, 16).context("a chunk without a length")?;
            self.read(length)?;
            self.line()?;
            if length == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread};

    fn answers(answers: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            let mut stream = BufReader::new(stream);
            for answer in answers {
                let mut line = String::new();
                while line != "\r\n" {
                    line.clear();
                    stream.read_line(&mut line).expect("a request");
                }
                stream.get_mut().write_all(answer.as_bytes()).expect("it is read");
            }
        });
        format!("http://{address}")
    }

    #[test]
    fn answers_of_both_kinds_are_read_over_one_connection() {
        let url = answers(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\ntwo\r\n1\r\n!\r\n0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno",
        ]);
        let mut http = Http::connect(&url).expect("it connects");
        assert_eq!(http.get("/", "u").expect("an answer"), b"one");
        assert_eq!(http.get("/", "u").expect("an answer"), b"two!");
        let refused = http.get("/x", "u").expect_err("no such thing").to_string();
        assert!(refused.contains("404") && refused.ends_with("no"), "{refused}");
    }
}
