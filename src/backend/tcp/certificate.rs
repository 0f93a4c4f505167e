//! Whose certificate it is, in one word for the status.

use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use super::telnet::printable;

/// The common name, or else the first name that it is for, or else the subject.
/// What cannot be shown on a terminal is left out; it was verified, but the CA
/// may have signed anything.
pub(super) fn name(certificate: &CertificateDer<'_>) -> String {
    let Ok((_, certificate)) = parse_x509_certificate(certificate) else {
        return String::new();
    };
    let subject = certificate.subject();
    let common = subject.iter_common_name().find_map(|name| name.as_str().ok());
    if let Some(common) = common.filter(|name| !name.is_empty()) {
        return printable(common.as_bytes());
    }
    let others = certificate.subject_alternative_name().ok().flatten();
    let names = others.iter().flat_map(|others| &others.value.general_names);
    let first = names.into_iter().find_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some(printable(name.as_bytes()))
        }
        GeneralName::OtherName(..)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    });
    first.unwrap_or_else(|| printable(subject.to_string().as_bytes()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn named(common: Option<&str>, others: &[&str]) -> String {
        let others: Vec<String> = others.iter().map(|&name| name.into()).collect();
        let mut params = CertificateParams::new(others).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Consoles");
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        name(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    #[test]
    fn the_most_telling_name_is_told_and_nothing_but_print() {
        assert_eq!(named(Some("rack7"), &["a.example"]), "rack7");
        assert_eq!(named(None, &["a.example", "b.example"]), "a.example");
        assert_eq!(named(None, &[]), "O=Consoles");
        assert_eq!(named(Some("a\x1b[2Jb"), &[]), "a[2Jb");
        assert_eq!(name(&CertificateDer::from(vec![1, 2, 3])), "");
    }
}
