//! Devices back to XML, byte for byte as libvirt writes them: single quotes,
//! childless elements self-closed, attributes and children in libvirt's order.
//!
//! A thing of its own because the order is the contract: a document that came
//! from libvirt and goes back unchanged shows no difference.

use super::{
    address,
    model::{
        ChannelTarget, CharDevice, ConsoleTarget, Log, Reconnect, SecLabel, Source, Target, UdpBind,
    },
    parse::is_user_alias,
    xml::is_character,
};

/// Blanks of one level.
const INDENT: usize = 2;

/// How the text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// No blank between elements.
    Compact,
    /// A line for each element, two blanks for each level; the devices
    /// themselves are on level 0.
    Indented,
}

/// What is written besides the definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Nothing: libvirt's inactive form, what is stored.
    Stored,
    /// What is so while the guest runs: the path of a pty, the `tty` of a pty
    /// console with port 0, the state of a virtio channel, any alias.
    Live,
}

/// Writes devices in the order given. A character that XML does not have, which
/// only a device that was not read can hold, becomes U+FFFD.
pub fn write(devices: &[CharDevice], style: Style, flavour: Flavour) -> String {
    let mut out = String::new();
    for one in devices {
        device(one, flavour).write(&mut out, style, 0);
    }
    out
}

fn device(device: &CharDevice, flavour: Flavour) -> Node {
    let path = live_pty_path(device, flavour);
    let is_at_port_0 = matches!(device.target, Target::Console { port: Some(0), .. });
    let mut node = Node::new(device.element().as_str())
        .with("type", device.interface().as_str())
        .with_some("tty", path.filter(|_| is_at_port_0));
    node.children.extend(sources(device, flavour));
    if let Source::Tcp(tcp) = &device.source {
        node.children.push(Node::new("protocol").with("type", tcp.protocol.as_str()));
    }
    if let Some(Log { file, append }) = &device.log {
        let log = Node::new("log").with("file", file);
        node.children.push(log.with_some("append", append.map(on_off)));
    }
    node.children.push(target(&device.target, flavour));
    let alias = device.alias.as_deref();
    if let Some(alias) = alias.filter(|a| flavour == Flavour::Live || is_user_alias(a)) {
        node.children.push(Node::new("alias").with("name", alias));
    }
    if let Some(index) = device.acpi_index {
        node.children.push(Node::new("acpi").with("index", index.to_string()));
    }
    node.children.extend(device.address.as_ref().map(address::node));
    node
}

fn live_pty_path(device: &CharDevice, flavour: Flavour) -> Option<&str> {
    match (&device.source, flavour) {
        (Source::Pty { path }, Flavour::Live) => path.as_deref(),
        _ => None,
    }
}

fn sources(device: &CharDevice, flavour: Flavour) -> Vec<Node> {
    let source = || Node::new("source");
    let labelled = |mut node: Node| {
        node.children.extend(device.seclabels.iter().filter_map(|label| seclabel(label, flavour)));
        vec![node]
    };
    match &device.source {
        Source::Null | Source::Vc | Source::Stdio | Source::SpiceVmc | Source::Unix(None) => {
            Vec::new()
        }
        Source::Pty { .. } => match live_pty_path(device, flavour) {
            Some(path) => labelled(source().with("path", path)),
            None => Vec::new(),
        },
        Source::Dev { path } | Source::Pipe { path } => labelled(source().with("path", path)),
        Source::File { path, append } => {
            labelled(source().with("path", path).with_some("append", append.map(on_off)))
        }
        Source::Udp(udp) => {
            let end = |mode: &str, host: Option<&String>, service: Option<&String>| {
                let node = source().with("mode", mode);
                node.with_some("host", host).with_some("service", service)
            };
            let bind = udp.bind.as_ref();
            let bind =
                bind.map(|UdpBind { host, service }| end("bind", host.as_ref(), service.as_ref()));
            let connect = end("connect", udp.host.as_ref(), Some(&udp.service));
            bind.into_iter().chain([connect]).collect()
        }
        Source::Tcp(tcp) => {
            let mut node = source()
                .with("mode", tcp.mode.as_str())
                .with("host", &tcp.host)
                .with("service", &tcp.service)
                .with_some("tls", tcp.tls.map(yes_no));
            node.children.extend(tcp.reconnect.map(reconnect));
            vec![node]
        }
        Source::Unix(Some(unix)) => {
            let node = source().with("mode", unix.mode.as_str()).with("path", &unix.path);
            let mut nodes = labelled(node);
            for node in &mut nodes {
                node.children.extend(unix.reconnect.map(reconnect));
            }
            nodes
        }
        Source::SpicePort { channel } | Source::Dbus { channel } => {
            vec![source().with("channel", channel)]
        }
        Source::Nmdm { pair } => {
            let pair = pair.as_ref();
            let node = pair.map(|(m, s)| source().with("master", m).with("slave", s));
            node.into_iter().collect()
        }
        Source::QemuVdagent { clipboard, mouse } => {
            let mut node = source();
            let clipboard = clipboard.map(yes_no);
            node.children.extend(clipboard.map(|c| Node::new("clipboard").with("copypaste", c)));
            node.children.extend(mouse.map(|m| Node::new("mouse").with("mode", m.as_str())));
            if node.children.is_empty() { Vec::new() } else { vec![node] }
        }
    }
}

fn reconnect(reconnect: Reconnect) -> Node {
    let node = Node::new("reconnect");
    match reconnect {
        Reconnect::No => node.with("enabled", "no"),
        Reconnect::Every { timeout_seconds } => {
            node.with("enabled", "yes").with("timeout", timeout_seconds.to_string())
        }
    }
}

/// Nothing for one that only names its model, unless the guest runs.
fn seclabel(label: &SecLabel, flavour: Flavour) -> Option<Node> {
    if flavour == Flavour::Stored && !is_stored(label) {
        return None;
    }
    let mut node = Node::new("seclabel")
        .with_some("model", label.model.as_ref())
        .with("relabel", yes_no(label.relabel));
    if let Some(text) = &label.label {
        node.children.push(Node { text: Some(text.clone()), ..Node::new("label") });
    }
    Some(node)
}

/// Whether a definition keeps a label.
pub(super) fn is_stored(label: &SecLabel) -> bool {
    label.label.is_some() || !label.relabel
}

fn target(target: &Target, flavour: Flavour) -> Node {
    let node = Node::new("target");
    let number = |port: &Option<i32>| port.map(|port| port.to_string());
    match target {
        Target::Serial { kind, model, port } => {
            let kind = kind.map(|kind| kind.as_str());
            let mut node = node.with_some("type", kind).with_some("port", number(port));
            node.children.extend(model.map(|m| Node::new("model").with("name", m.as_str())));
            node
        }
        Target::Parallel { port } => node.with_some("port", number(port)),
        Target::Console { kind, port } => {
            let kind = kind.unwrap_or(ConsoleTarget::Serial);
            node.with("type", kind.as_str()).with_some("port", number(port))
        }
        Target::Channel(ChannelTarget::None) => node.with("type", "none"),
        Target::Channel(ChannelTarget::Virtio { name, state }) => {
            let state = state.filter(|_| flavour == Flavour::Live);
            let node = node.with("type", "virtio").with_some("name", name.as_ref());
            node.with_some("state", state.map(|state| state.as_str()))
        }
        Target::Channel(ChannelTarget::Xen { name }) => {
            node.with("type", "xen").with_some("name", name.as_ref())
        }
        Target::Channel(ChannelTarget::Guestfwd { address, port }) => node
            .with("type", "guestfwd")
            .with("address", address.to_string())
            .with("port", port.to_string()),
    }
}

pub(super) fn on_off(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

fn yes_no(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}

/// An element to be written.
#[derive(Debug)]
pub(super) struct Node {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Node>,
    /// Instead of children.
    text: Option<String>,
}

impl Node {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, attributes: Vec::new(), children: Vec::new(), text: None }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    pub(super) fn with_some(self, name: &'static str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    fn write(&self, out: &mut String, style: Style, level: usize) {
        let indent = |out: &mut String| {
            if style == Style::Indented {
                out.extend(std::iter::repeat_n(' ', level * INDENT));
            }
        };
        indent(out);
        out.push('<');
        out.push_str(self.name);
        for (name, value) in &self.attributes {
            out.push(' ');
            out.push_str(name);
            out.push_str("='");
            escape(value, out);
            out.push('\'');
        }
        let line_end = if style == Style::Indented { "\n" } else { "" };
        if let Some(text) = &self.text {
            out.push('>');
            escape(text, out);
        } else if self.children.is_empty() {
            out.push_str("/>");
            out.push_str(line_end);
            return;
        } else {
            out.push('>');
            out.push_str(line_end);
            for child in &self.children {
                child.write(out, style, level + 1);
            }
            indent(out);
        }
        out.push_str("</");
        out.push_str(self.name);
        out.push('>');
        out.push_str(line_end);
    }
}

/// Everything that would not come back as it is becomes a reference.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            other if !is_character(other) => out.push(char::REPLACEMENT_CHARACTER),
            other => out.push(other),
        }
    }
}
