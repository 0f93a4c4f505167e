//! Names of devices: what parses is safe as a component of a path and reads back
//! as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lineman::name::DeviceId;

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<DeviceId>() {
        assert_eq!(id.as_str(), text);
        let path = std::path::Path::new("/root").join(text);
        assert_eq!(path.parent(), Some(std::path::Path::new("/root")));
        assert_eq!(DeviceId::from_resource_name(&id.resource_name()).unwrap(), id);
    }
});
