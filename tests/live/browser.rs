//! A browser without a window, driven over its debugging port.
//!
//! Source: Chrome DevTools Protocol, domains `Runtime`, `Page` and `Input`; RFC 6455 §5.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::lab::until;

/// The program.
pub(crate) const PROGRAM: &str = "chromium";

/// A page of a browser.
pub(crate) struct Browser {
    child: Child,
    stream: TcpStream,
    number: u64,
    _directory: tempfile::TempDir,
}

impl Browser {
    /// Opens a page. It asks nobody but this machine for anything.
    pub(crate) fn open(url: &str) -> Result<Self, Failed> {
        let directory = tempfile::tempdir()?;
        let child = Command::new(PROGRAM)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--disable-dev-shm-usage", "--window-size=1400,900"])
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .args(["--remote-debugging-port=0", "about:blank"])
            .arg(format!("--user-data-dir={}", directory.path().display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let said = directory.path().join("DevToolsActivePort");
        let mut port = String::new();
        until("the browser says its port", || {
            let text = std::fs::read_to_string(&said).unwrap_or_default();
            text.lines().next().unwrap_or_default().clone_into(&mut port);
            Ok(text.lines().count() > 1)
        })?;
        let address = format!("127.0.0.1:{port}");
        let mut socket = None;
        until("the browser has a page", || {
            let pages: Value = serde_json::from_slice(&pages(&address)?)?;
            let page = pages.as_array().into_iter().flatten().find(|page| page["type"] == "page");
            let url = page.and_then(|page| page["webSocketDebuggerUrl"].as_str());
            socket =
                url.and_then(|url| Some(url.split_once("//")?.1.split_once('/')?.1.to_owned()));
            Ok(socket.is_some())
        })?;
        let mut stream = TcpStream::connect(&address)?;
        write!(
            stream,
            "GET /{} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            socket.unwrap_or_default()
        )?;
        let answered = head(&mut stream)?;
        assert!(answered.starts_with("HTTP/1.1 101"), "{answered}");
        let mut browser = Self { child, stream, number: 0, _directory: directory };
        browser.call("Page.navigate", &json!({ "url": url }))?;
        Ok(browser)
    }

    fn send(&mut self, text: &str) -> Result<(), Failed> {
        let length = u16::try_from(text.len())?;
        // a text that is whole, with a length of sixteen bits, under a mask that changes nothing
        let mut frame = vec![0x81, 0xfe];
        frame.extend(length.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        Ok(self.stream.write_all(&frame)?)
    }

    fn receive(&mut self) -> Result<Vec<u8>, Failed> {
        let mut message = Vec::new();
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head)?;
            let mut more = [0; 8];
            let length = match head[1] & 0x7f {
                126 => {
                    self.stream.read_exact(&mut more[6..])?;
                    u64::from_be_bytes(more)
                }
                127 => {
                    self.stream.read_exact(&mut more)?;
                    u64::from_be_bytes(more)
                }
                length => length.into(),
            };
            let start = message.len();
            message.resize(start + usize::try_from(length)?, 0);
            self.stream.read_exact(&mut message[start..])?;
            if head[0] & 0x80 != 0 {
                return Ok(message);
            }
        }
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value, Failed> {
        self.number += 1;
        let call = json!({ "id": self.number, "method": method, "params": parameters });
        self.send(&call.to_string())?;
        loop {
            let answer: Value = serde_json::from_slice(&self.receive()?)?;
            if answer["id"] == self.number {
                return match answer.get("error") {
                    Some(error) => Err(format!("{method}: {error}").into()),
                    None => Ok(answer["result"].clone()),
                };
            }
        }
    }

    /// What an expression comes to on the page.
    pub(crate) fn value(&mut self, expression: &str) -> Result<Value, Failed> {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", &asked)?;
        if let Some(wrong) = answer.get("exceptionDetails") {
            return Err(format!("{expression}: {wrong}").into());
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression holds.
    pub(crate) fn until(&mut self, expression: &str) -> Result<(), Failed> {
        until(expression, || Ok(self.value(expression)? == Value::Bool(true)))
    }

    /// Clicks at the middle of what a selector finds.
    pub(crate) fn click(&mut self, selector: &str) -> Result<(), Failed> {
        let place = self.value(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView(); \
             const r = e.getBoundingClientRect(); \
             return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ))?;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({
                "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1,
            });
            self.call("Input.dispatchMouseEvent", &event)?;
        }
        Ok(())
    }
}

/// The browser's pages. It keeps the connection, so what it says is as long as it says.
fn pages(address: &str) -> Result<Vec<u8>, Failed> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /json/list HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let head = head(&mut stream)?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.ok_or("no length")?.trim().parse()?];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// An answer up to its body.
fn head(stream: &mut TcpStream) -> Result<String, Failed> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet)?;
        head.push(octet[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
