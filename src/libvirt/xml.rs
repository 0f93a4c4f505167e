//! XML to a small tree: the elements that count, each with its attributes and
//! its place.
//!
//! A thing of its own because documents come from anybody: here, and only here,
//! is decided what is read at all. quick-xml finds the tags; what it leaves to
//! its caller is checked here: characters, names, blanks between attributes, `<`
//! in values, text outside of elements, elements that are never closed.
//!
//! Bounds: `limits::DOMAIN_*`. The document is borrowed, elements that nobody
//! asked for are checked and not kept, and an entity is one character, so the
//! tree of the worst document is a small multiple of its bytes.

use std::{borrow::Cow, str};

use quick_xml::{
    Error, XmlVersion,
    errors::SyntaxError,
    escape::{EscapeError, resolve_predefined_entity},
    events::{BytesDecl, BytesRef, Event, attributes::Attributes},
    reader::Reader,
};

use super::fault::{Class, Fault, Position, quoted};
use crate::limits;

/// An element.
#[derive(Debug)]
pub(super) struct Element<'a> {
    /// Its name, with its prefix if it has one.
    pub(super) name: &'a str,
    /// Where it begins.
    pub(super) position: Position,
    /// Text directly within it, its pieces joined, if it was wanted.
    pub(super) text: String,
    attributes: Vec<Attribute<'a>>,
    children: Vec<Element<'a>>,
}

/// An attribute.
#[derive(Debug)]
pub(super) struct Attribute<'a> {
    /// Its value, with references resolved and blanks as XML wants them.
    pub(super) value: Cow<'a, str>,
    /// Where it begins.
    pub(super) position: Position,
    name: &'a str,
}

impl<'a> Element<'a> {
    /// An attribute.
    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute<'a>> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    /// The value of an attribute.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.attribute(name).map(|attribute| &*attribute.value)
    }

    /// All children of a name.
    pub(super) fn children(&self, name: &str) -> impl Iterator<Item = &Element<'a>> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first child of a name.
    pub(super) fn child(&self, name: &str) -> Option<&Element<'a>> {
        self.children(name).next()
    }

    /// All children.
    pub(super) fn all_children(&self) -> &[Element<'a>] {
        &self.children
    }
}

/// What is kept of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing, nor of what is within it.
    Nothing,
    /// Its attributes, and the children that are wanted.
    Tree,
    /// The same, and its text.
    Text,
}

/// Reads a document, or several elements in a row. `wanted` is asked of each
/// element, with the name of the element around it if there is one.
pub(super) fn read(
    document: &[u8],
    wanted: fn(Option<&str>, &str) -> Wanted,
) -> Result<Vec<Element<'_>>, Fault> {
    if document.len() > limits::DOMAIN_BYTES_MAX {
        let message = format!("more than {} bytes", limits::DOMAIN_BYTES_MAX);
        return Err(Fault::new(Class::TooLarge, Position { line: 1, column: 1 }, message));
    }
    let text = checked_text(document)?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut tree = Tree {
        text,
        wanted,
        place: Place::start(text),
        open: Vec::new(),
        roots: Vec::new(),
        elements: 0,
    };
    loop {
        let before = offset(reader.buffer_position());
        let event = reader.read_event().map_err(|error| {
            let is_doctype = matches!(error, Error::Syntax(SyntaxError::UnclosedDoctype));
            let class = if is_doctype { Class::Forbidden } else { Class::Xml };
            tree.fault(class, offset(reader.error_position()), error.to_string())
        })?;
        let end = offset(reader.buffer_position());
        match event {
            Event::Start(tag) => tree.start(tag.len(), end.saturating_sub(1))?,
            Event::Empty(tag) => {
                tree.start(tag.len(), end.saturating_sub(2))?;
                tree.end();
            }
            Event::End(_) => tree.end(),
            Event::Text(piece) => tree.text(&piece, before)?,
            Event::CData(piece) => tree.character_data(&piece, before)?,
            Event::GeneralRef(reference) => tree.reference(&reference, before)?,
            Event::Decl(declaration) => tree.declaration(&declaration, before)?,
            Event::DocType(_) => {
                return Err(tree.fault(Class::Forbidden, before, "a DOCTYPE is not allowed"));
            }
            Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    match tree.open.last() {
        Some(Open { name, .. }) => {
            let message = format!("the document ends within <{}>", quoted(name));
            Err(tree.fault(Class::Xml, text.len(), message))
        }
        None => Ok(tree.roots),
    }
}

/// The document as text without byte order mark, every character of it one that
/// XML allows.
fn checked_text(document: &[u8]) -> Result<&str, Fault> {
    let text = match str::from_utf8(document) {
        Ok(text) => text,
        Err(error) => {
            let valid = document.get(..error.valid_up_to()).unwrap_or_default();
            let valid = str::from_utf8(valid).unwrap_or_default();
            return Err(Fault::new(Class::Xml, Place::end(valid), "the document is not UTF-8"));
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some((at, forbidden)) = text.char_indices().find(|(_, c)| !is_character(*c)) {
        let message = format!("XML has no character U+{:04X}", u32::from(forbidden));
        return Err(Fault::new(Class::Xml, Place::end(&text[..at]), message));
    }
    Ok(text)
}

/// A tree that grows.
struct Tree<'a> {
    text: &'a str,
    wanted: fn(Option<&str>, &str) -> Wanted,
    place: Place<'a>,
    open: Vec<Open<'a>>,
    roots: Vec<Element<'a>>,
    elements: usize,
}

/// An element that is not closed yet.
struct Open<'a> {
    name: &'a str,
    wanted: Wanted,
    /// Absent if nobody wants it.
    element: Option<Element<'a>>,
}

impl<'a> Tree<'a> {
    /// Opens an element whose tag, without brackets, is so long and ends there.
    fn start(&mut self, tag_bytes: usize, tag_end: usize) -> Result<(), Fault> {
        let from = tag_end.saturating_sub(tag_bytes);
        let tag = self.text.get(from..tag_end).unwrap_or_default();
        let bracket = from.saturating_sub(1);
        if self.open.len() >= limits::DOMAIN_DEPTH_MAX {
            let message = format!("more than {} elements within each other", self.open.len());
            return Err(self.fault(Class::TooDeep, bracket, message));
        }
        self.elements += 1;
        if self.elements > limits::DOMAIN_ELEMENTS_MAX {
            let message = format!("more than {} elements", limits::DOMAIN_ELEMENTS_MAX);
            return Err(self.fault(Class::TooMany, bracket, message));
        }
        let name_bytes = tag.find(is_blank).unwrap_or(tag.len());
        let name = &tag[..name_bytes];
        if !is_name(name) {
            let message = format!("{} is not a name of an element", quoted(name));
            return Err(self.fault(Class::Xml, bracket, message));
        }
        let position = self.place.at(bracket);
        let attributes = self.attributes(tag, name_bytes, from)?;
        let wanted = match self.open.last() {
            Some(Open { wanted: Wanted::Nothing, .. }) => Wanted::Nothing,
            Some(parent) => (self.wanted)(Some(parent.name), name),
            None => (self.wanted)(None, name),
        };
        let element = (wanted != Wanted::Nothing).then(|| Element {
            name,
            position,
            text: String::new(),
            attributes,
            children: Vec::new(),
        });
        self.open.push(Open { name, wanted, element });
        Ok(())
    }

    fn attributes(
        &mut self,
        tag: &'a str,
        name_bytes: usize,
        from: usize,
    ) -> Result<Vec<Attribute<'a>>, Fault> {
        let mut attributes = Vec::new();
        for attribute in Attributes::new(tag, name_bytes) {
            let attribute = match attribute {
                Ok(attribute) => attribute,
                Err(error) => return Err(self.fault(Class::Xml, from, error.to_string())),
            };
            let name = attribute.key.0;
            let at = name.as_ptr().addr().saturating_sub(tag.as_ptr().addr());
            if attributes.len() >= limits::DOMAIN_ATTRIBUTES_MAX {
                let message = format!("more than {} attributes", attributes.len());
                return Err(self.fault(Class::TooMany, from + at, message));
            }
            // quick-xml takes a quotation mark for the end of the blanks, too.
            let is_apart = tag[..at].ends_with(is_blank);
            if !is_apart || !is_name(name) || attribute.value.contains('<') {
                let message = format!("the attribute {} is malformed", quoted(name));
                return Err(self.fault(Class::Xml, from + at, message));
            }
            let value = attribute.normalized_value(XmlVersion::Explicit1_0).map_err(|error| {
                let is_entity = matches!(error, Error::Escape(EscapeError::UnrecognizedEntity(..)));
                let class = if is_entity { Class::Forbidden } else { Class::Xml };
                self.fault(class, from + at, error.to_string())
            })?;
            if value.len() > limits::DOMAIN_VALUE_BYTES_MAX {
                let message = format!("a value of {} bytes", value.len());
                return Err(self.fault(Class::TooLarge, from + at, message));
            }
            if !value.chars().all(is_character) {
                let message = "a reference to a character that XML does not have";
                return Err(self.fault(Class::Xml, from + at, message));
            }
            attributes.push(Attribute { value, position: self.place.at(from + at), name });
        }
        // There may be 200,000 of them: no room for more that never come.
        attributes.shrink_to_fit();
        Ok(attributes)
    }

    /// Closes the innermost element; quick-xml has checked its name.
    fn end(&mut self) {
        let Some(Open { element: Some(element), .. }) = self.open.pop() else { return };
        match self.open.last_mut() {
            Some(Open { element: Some(parent), .. }) => parent.children.push(element),
            Some(Open { element: None, .. }) => {}
            None => self.roots.push(element),
        }
    }

    fn text(&mut self, piece: &str, at: usize) -> Result<(), Fault> {
        if self.open.is_empty() && piece.chars().all(is_blank) {
            return Ok(());
        }
        if piece.contains("]]>") {
            return Err(self.fault(Class::Xml, at, "']]>' is not allowed in text"));
        }
        self.character_data(piece, at)
    }

    fn reference(&mut self, reference: &BytesRef<'_>, at: usize) -> Result<(), Fault> {
        let character = match reference.resolve_char_ref() {
            Ok(character) => character,
            Err(error) => return Err(self.fault(Class::Xml, at, error.to_string())),
        };
        match (character, resolve_predefined_entity(reference)) {
            (Some(character), _) if is_character(character) => {
                self.character_data(character.encode_utf8(&mut [0; 4]), at)
            }
            (Some(_), _) => {
                let message = "a reference to a character that XML does not have";
                Err(self.fault(Class::Xml, at, message))
            }
            (None, Some(character)) => self.character_data(character, at),
            (None, None) => {
                let message = format!("the entity {} is not allowed", quoted(reference));
                Err(self.fault(Class::Forbidden, at, message))
            }
        }
    }

    fn character_data(&mut self, piece: &str, at: usize) -> Result<(), Fault> {
        let Some(innermost) = self.open.last_mut() else {
            return Err(self.fault(Class::Xml, at, "text outside of every element"));
        };
        // Any other text is the layout of the document.
        let Open { wanted: Wanted::Text, element: Some(element), .. } = innermost else {
            return Ok(());
        };
        if element.text.len() + piece.len() > limits::DOMAIN_VALUE_BYTES_MAX {
            let message = format!("more than {} bytes of text", limits::DOMAIN_VALUE_BYTES_MAX);
            return Err(self.fault(Class::TooLarge, at, message));
        }
        element.text.push_str(piece);
        Ok(())
    }

    fn declaration(&self, declaration: &BytesDecl<'_>, at: usize) -> Result<(), Fault> {
        if at != 0 {
            return Err(self.fault(Class::Xml, at, "an XML declaration must come first"));
        }
        if !declaration.version().is_ok_and(|version| version == "1.0") {
            return Err(self.fault(Class::Xml, at, "the version of XML must be 1.0"));
        }
        match declaration.encoding() {
            None => Ok(()),
            Some(Ok(encoding))
                if ["utf-8", "us-ascii"].iter().any(|e| encoding.eq_ignore_ascii_case(e)) =>
            {
                Ok(())
            }
            Some(_) => Err(self.fault(Class::Xml, at, "the encoding must be UTF-8")),
        }
    }

    fn fault(&self, class: Class, at: usize, message: impl Into<String>) -> Fault {
        let before = self.text.get(..at).unwrap_or(self.text);
        Fault::new(class, Place::end(before), message)
    }
}

/// Where an offset is, found without going back.
struct Place<'a> {
    text: &'a str,
    offset: usize,
    position: Position,
}

impl<'a> Place<'a> {
    fn start(text: &'a str) -> Self {
        Self { text, offset: 0, position: Position { line: 1, column: 1 } }
    }

    /// The position behind a text.
    fn end(text: &str) -> Position {
        Place::start(text).at(text.len())
    }

    /// The position of an offset, which must not be before the last one.
    fn at(&mut self, offset: usize) -> Position {
        for character in self.text.get(self.offset..offset).unwrap_or_default().chars() {
            if character == '\n' {
                self.position.line += 1;
                self.position.column = 1;
            } else {
                self.position.column += 1;
            }
        }
        self.offset = self.offset.max(offset);
        self.position
    }
}

fn offset(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

/// XML 1.0, section 2.2.
pub(super) fn is_character(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// XML 1.0, section 2.3, in ASCII; beyond it anything is taken for a letter.
fn is_name(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | ':') || !c.is_ascii();
    name.starts_with(is_letter)
        && name.chars().all(|c| is_letter(c) || c.is_ascii_digit() || matches!(c, '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(document: &str) -> Result<Vec<Element<'_>>, Fault> {
        read(
            document.as_bytes(),
            |_, name| {
                if name == "skipped" { Wanted::Nothing } else { Wanted::Text }
            },
        )
    }

    #[test]
    fn elements_and_attributes_know_their_places() {
        let document = "<?xml version='1.0'?>\n<!-- ü -->\n<a>\n  <b ü='1' x = \"2\"\n c='3'/></a>";
        let roots = tree(document).unwrap();
        let b = roots[0].child("b").unwrap();
        assert_eq!(b.position, Position { line: 4, column: 3 });
        assert_eq!(b.attribute("x").unwrap().position, Position { line: 4, column: 12 });
        assert_eq!(b.attribute("c").unwrap().position, Position { line: 5, column: 2 });
        assert_eq!((b.value("x"), b.value("y")), (Some("2"), None));
    }

    #[test]
    fn values_and_text_are_resolved() {
        let document = "<a b='&lt;&#10;&#x41;\t\r\n&apos;\"'>  x &amp; <![CDATA[<y>]]>&#9;</a>";
        let roots = tree(document).unwrap();
        assert_eq!(roots[0].value("b"), Some("<\nA  '\""));
        assert_eq!(roots[0].text, "  x & <y>\t");
        let many = format!("<a b='{}'/>", "&amp;".repeat(4096));
        assert_eq!(tree(&many).unwrap()[0].value("b").unwrap().len(), 4096);
    }

    #[test]
    fn what_nobody_wants_is_checked_and_not_kept() {
        let roots = tree("<a><skipped><b/>text<a/></skipped><b/></a><skipped/>").unwrap();
        assert_eq!((roots.len(), roots[0].all_children().len()), (1, 1));
        assert!(tree("<a><skipped><b c='&d;'/></skipped></a>").is_err());
    }

    #[test]
    fn what_is_not_xml_is_refused() {
        for (document, class, column) in [
            ("<a>", Class::Xml, 4),
            ("<a></b>", Class::Xml, 4),
            ("<a/></a>", Class::Xml, 5),
            ("<a b='1'c='2'/>", Class::Xml, 9),
            ("<a b='1' b='2'/>", Class::Xml, 2),
            ("<a b=1/>", Class::Xml, 2),
            ("<a b/>", Class::Xml, 2),
            ("<a b='<'/>", Class::Xml, 4),
            ("<a b='&#0;'/>", Class::Xml, 4),
            ("<a b='&#1;'/>", Class::Xml, 4),
            ("<a b='&#xfffe;'/>", Class::Xml, 4),
            ("<a b='&'/>", Class::Xml, 4),
            ("<a>&</a>", Class::Xml, 4),
            ("<a>&#1;</a>", Class::Xml, 4),
            ("<a>]]></a>", Class::Xml, 4),
            ("<a><!-- -- --></a>", Class::Xml, 9),
            ("<a/>x", Class::Xml, 5),
            ("<a/>&lt;", Class::Xml, 5),
            ("<1/>", Class::Xml, 1),
            ("< a/>", Class::Xml, 1),
            ("<a", Class::Xml, 1),
            (" <?xml version='1.0'?><a/>", Class::Xml, 2),
            ("<?xml version='1.1'?><a/>", Class::Xml, 1),
            ("<?xml version='1.0' encoding='latin1'?><a/>", Class::Xml, 1),
            ("<a>\u{1}</a>", Class::Xml, 4),
            ("<!DOCTYPE a><a/>", Class::Forbidden, 1),
            ("<!DOCTYPE a [", Class::Forbidden, 1),
            ("<a b='&c;'/>", Class::Forbidden, 4),
            ("<a>&c;</a>", Class::Forbidden, 4),
        ] {
            let fault = tree(document).expect_err(document);
            assert_eq!((fault.class, fault.line, fault.column), (class, 1, column), "{document}");
        }
        let fault = read(b"<a>\n\xff</a>", |_, _| Wanted::Tree).unwrap_err();
        assert_eq!((fault.class, fault.line, fault.column), (Class::Xml, 2, 1));
    }

    #[test]
    fn every_bound_holds_exactly() {
        let deep = |n: usize| "<a>".repeat(n) + &"</a>".repeat(n);
        let fine = limits::DOMAIN_DEPTH_MAX;
        assert!(tree(&deep(fine)).is_ok());
        assert_eq!(tree(&deep(fine + 1)).unwrap_err().class, Class::TooDeep);

        let many = |n: usize| "<a/>".repeat(n);
        let fine = limits::DOMAIN_ELEMENTS_MAX;
        assert!(tree(&many(fine)).is_ok());
        assert_eq!(tree(&many(fine + 1)).unwrap_err().class, Class::TooMany);

        let attributes = |n: usize| {
            let attributes: String = (0..n).map(|i| format!(" a{i}=''")).collect();
            format!("<a{attributes}/>")
        };
        let fine = limits::DOMAIN_ATTRIBUTES_MAX;
        assert!(tree(&attributes(fine)).is_ok());
        assert_eq!(tree(&attributes(fine + 1)).unwrap_err().class, Class::TooMany);

        let fine = limits::DOMAIN_VALUE_BYTES_MAX;
        let value = |n: usize| format!("<a b='{}'/>", "x".repeat(n));
        assert!(tree(&value(fine)).is_ok());
        assert_eq!(tree(&value(fine + 1)).unwrap_err().class, Class::TooLarge);
        let text = |n: usize| format!("<a>{}</a>", "x".repeat(n));
        assert!(tree(&text(fine)).is_ok());
        assert_eq!(tree(&text(fine + 1)).unwrap_err().class, Class::TooLarge);

        let long = |n: usize| format!("<a/>{}", " ".repeat(n - 4));
        let fine = limits::DOMAIN_BYTES_MAX;
        assert!(tree(&long(fine)).is_ok());
        assert_eq!(tree(&long(fine + 1)).unwrap_err().class, Class::TooLarge);
    }
}
