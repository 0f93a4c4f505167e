//! DeviceService: checks requests, calls the fleet, answers.

use std::pin::Pin;

use futures_util::Stream;
use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    Api, authorize::device_id, convert, domain_xml, field_mask, filter::Filter, page,
    status::Error, watch,
};
use crate::{
    auth::Action,
    device::{Device, Fault, RunState},
    fleet::{self, Entry, NewDevice},
    limits,
    line::Urgency,
    name::DeviceId,
    pb::{self, device_service_server::DeviceService},
};

/// How often an update without an etag is tried again when others are faster.
const UPDATE_TRIES: usize = 8;

#[tonic::async_trait]
impl DeviceService for Api {
    async fn create_device(
        &self,
        request: Request<pb::CreateDeviceRequest>,
    ) -> Result<Response<pb::Device>, Status> {
        let id = request.get_ref().device_id.parse::<DeviceId>();
        let id = id.map_err(|error| Error::Name { field: "device_id", error })?;
        self.authorize(request.extensions(), Action::Create, Some(&id))?;
        let request = request.into_inner();
        let new = parse_create(id.clone(), &request)?;
        let refused = |error| Error::Fleet(error, id.clone());
        if request.validate_only {
            return match self.inner.fleet.check_create(&new) {
                Ok(()) => Ok(Response::new(convert::preview(new))),
                Err(error) => self.created_before(error, &new).map_err(Into::into),
            };
        }
        match self.inner.fleet.create(new.clone()).await {
            Ok(entry) => Ok(Response::new(convert::device(&entry))),
            Err(error @ fleet::Error::Exists) => {
                self.created_before(error, &new).map_err(Into::into)
            }
            Err(error) => Err(refused(error).into()),
        }
    }

    async fn get_device(
        &self,
        request: Request<pb::GetDeviceRequest>,
    ) -> Result<Response<pb::Device>, Status> {
        let id = device_id("name", &request.get_ref().name)?;
        self.authorize(request.extensions(), Action::Get, Some(&id))?;
        Ok(Response::new(convert::device(&self.entry(&id)?)))
    }

    async fn list_devices(
        &self,
        request: Request<pb::ListDevicesRequest>,
    ) -> Result<Response<pb::ListDevicesResponse>, Status> {
        self.authorize(request.extensions(), Action::List, None)?;
        let request = request.get_ref();
        let filter = parse_filter(&request.filter)?;
        let size = page::size(request.page_size)
            .map_err(|problem| Error::Fields(vec![Fault::new("page_size", problem)]))?;
        let after =
            page::after(&request.page_token, &request.filter).map_err(|_| Error::PageToken)?;
        // One more than asked for tells whether there is a next page.
        let mut entries = self.inner.fleet.list(after.as_ref(), size + 1, |e| filter.selects(e));
        let more = entries.len() > size;
        entries.truncate(size);
        let (mut devices, mut bytes) = (Vec::new(), 0);
        for entry in &entries {
            let device = convert::device(entry);
            bytes += device.encoded_len();
            // A shorter page is a page too (AIP-158); one device always fits.
            if bytes > limits::PAGE_BYTES_MAX && !devices.is_empty() {
                break;
            }
            devices.push(device);
        }
        let is_last = devices.len() == entries.len() && !more;
        let last = devices.len().checked_sub(1).and_then(|at| entries.get(at)).filter(|_| !is_last);
        let next_page_token =
            last.map(|last| page::token(&last.device.id, &request.filter)).unwrap_or_default();
        Ok(Response::new(pb::ListDevicesResponse { devices, next_page_token }))
    }

    async fn update_device(
        &self,
        request: Request<pb::UpdateDeviceRequest>,
    ) -> Result<Response<pb::Device>, Status> {
        let name = request.get_ref().device.as_ref().map_or("", |device| device.name.as_str());
        let id = device_id("device.name", name)?;
        self.authorize(request.extensions(), Action::Update, Some(&id))?;
        let request = request.into_inner();
        let incoming = request.device.unwrap_or_default();
        let change = |current: &Device| {
            let stored = convert::stored(current);
            let mask = request.update_mask.as_ref();
            let merged = field_mask::apply(&self.inner.schema, &stored, &incoming, mask);
            let merged = merged.map_err(Error::Fields)?;
            let spec = convert::parse_spec(merged.spec.as_ref(), &merged.labels);
            Ok(Device {
                spec: spec.map_err(Error::Fields)?,
                labels: merged.labels,
                ..current.clone()
            })
        };
        if request.validate_only {
            let entry = self.entry(&id)?;
            check_etag(&entry, &incoming.etag)?;
            let changed = change(&entry.device)?;
            let checked = self.inner.fleet.check_update(&entry.device, &changed);
            checked.map_err(|error| Error::Fleet(error, id))?;
            return Ok(Response::new(convert::stored(&changed)));
        }
        let entry = self.change(&id, &incoming.etag, Urgency::Usual, change).await?;
        Ok(Response::new(convert::device(&entry)))
    }

    async fn delete_device(
        &self,
        request: Request<pb::DeleteDeviceRequest>,
    ) -> Result<Response<()>, Status> {
        let id = device_id("name", &request.get_ref().name)?;
        self.authorize(request.extensions(), Action::Delete, Some(&id))?;
        let etag = &request.get_ref().etag;
        for last in (0..UPDATE_TRIES).rev() {
            let entry = self.entry(&id)?;
            check_etag(&entry, etag)?;
            match self.inner.fleet.delete(&id, entry.device.revision).await {
                Err(fleet::Error::Changed) if etag.is_empty() && last > 0 => {}
                result => {
                    return Ok(Response::new(result.map_err(|error| Error::Fleet(error, id))?));
                }
            }
        }
        Err(Error::Etag(id).into())
    }

    type WatchDevicesStream =
        Pin<Box<dyn Stream<Item = Result<pb::WatchDevicesResponse, Status>> + Send>>;

    async fn watch_devices(
        &self,
        request: Request<pb::WatchDevicesRequest>,
    ) -> Result<Response<Self::WatchDevicesStream>, Status> {
        self.authorize(request.extensions(), Action::List, None)?;
        let filter = parse_filter(&request.get_ref().filter)?;
        let events = watch::serve(self.clone(), request.get_ref(), filter)?;
        Ok(Response::new(Box::pin(events)))
    }

    async fn import_domain_xml(
        &self,
        request: Request<pb::ImportDomainXmlRequest>,
    ) -> Result<Response<pb::ImportDomainXmlResponse>, Status> {
        let (_metadata, extensions, request) = request.into_parts();
        Ok(Response::new(domain_xml::import(self, &extensions, request).await?))
    }

    async fn export_domain_xml(
        &self,
        request: Request<pb::ExportDomainXmlRequest>,
    ) -> Result<Response<pb::ExportDomainXmlResponse>, Status> {
        Ok(Response::new(domain_xml::export(self, request.extensions(), request.get_ref())?))
    }

    async fn start_device(
        &self,
        request: Request<pb::StartDeviceRequest>,
    ) -> Result<Response<pb::Device>, Status> {
        let id = device_id("name", &request.get_ref().name)?;
        self.authorize(request.extensions(), Action::Update, Some(&id))?;
        let change = |current: &Device| Ok(current.with_run_state(RunState::Running));
        let entry = self.change(&id, &request.get_ref().etag, Urgency::Now, change).await?;
        Ok(Response::new(convert::device(&entry)))
    }

    async fn stop_device(
        &self,
        request: Request<pb::StopDeviceRequest>,
    ) -> Result<Response<pb::Device>, Status> {
        let id = device_id("name", &request.get_ref().name)?;
        self.authorize(request.extensions(), Action::Update, Some(&id))?;
        let change = |current: &Device| Ok(current.with_run_state(RunState::Stopped));
        let entry = self.change(&id, &request.get_ref().etag, Urgency::Usual, change).await?;
        Ok(Response::new(convert::device(&entry)))
    }
}

impl Api {
    fn entry(&self, id: &DeviceId) -> Result<Entry, Error> {
        self.inner.fleet.get(id).map_err(|error| Error::Fleet(error, id.clone()))
    }

    /// Changes a device. Without an etag it is tried again when somebody else
    /// was faster; one that changes nothing is not stored.
    async fn change(
        &self,
        id: &DeviceId,
        etag: &str,
        urgency: Urgency,
        change: impl Fn(&Device) -> Result<Device, Error>,
    ) -> Result<Entry, Error> {
        for last in (0..UPDATE_TRIES).rev() {
            let entry = self.entry(id)?;
            check_etag(&entry, etag)?;
            let changed = change(&entry.device)?;
            let refused = |error| Error::Fleet(error, id.clone());
            if changed == *entry.device {
                if urgency == Urgency::Now {
                    self.inner.fleet.open_now(&entry).await.map_err(refused)?;
                }
                return Ok(entry);
            }
            match self.inner.fleet.update(changed, urgency).await {
                Err(fleet::Error::Changed) if etag.is_empty() && last > 0 => {}
                result => return result.map_err(refused),
            }
        }
        Err(Error::Etag(id.clone()))
    }

    /// The device that the same request made before, or the error.
    fn created_before(
        &self,
        error: fleet::Error,
        new: &NewDevice,
    ) -> Result<Response<pb::Device>, Error> {
        let found = self.inner.fleet.get(&new.id).ok().filter(|entry| {
            !new.request_id.is_empty() && entry.device.create_request_id == new.request_id
        });
        match found {
            Some(entry) => Ok(Response::new(convert::device(&entry))),
            None => Err(Error::Fleet(error, new.id.clone())),
        }
    }
}

fn parse_create(id: DeviceId, request: &pb::CreateDeviceRequest) -> Result<NewDevice, Error> {
    let mut faults = Vec::new();
    let device = request.device.clone().unwrap_or_default();
    if !device.name.is_empty() && device.name != id.resource_name() {
        let problem = format!("must be empty or {:?}", id.resource_name());
        faults.push(Fault::new("device.name", problem));
    }
    if request.request_id.len() > limits::REQUEST_ID_BYTES_MAX {
        let problem = format!("must be at most {} bytes", limits::REQUEST_ID_BYTES_MAX);
        faults.push(Fault::new("request_id", problem));
    }
    match convert::parse_spec(device.spec.as_ref(), &device.labels) {
        Ok(spec) if faults.is_empty() => Ok(NewDevice {
            id,
            labels: device.labels,
            spec,
            request_id: request.request_id.clone(),
        }),
        Ok(_) => Err(Error::Fields(faults)),
        Err(more) => {
            faults.extend(more);
            Err(Error::Fields(faults))
        }
    }
}

fn check_etag(entry: &Entry, etag: &str) -> Result<(), Error> {
    if etag.is_empty() || etag == entry.device.etag() {
        Ok(())
    } else {
        Err(Error::Etag(entry.device.id.clone()))
    }
}

fn parse_filter(filter: &str) -> Result<Filter, Error> {
    if filter.len() > limits::FILTER_BYTES_MAX {
        return Err(Error::Filter(format!("must be at most {} bytes", limits::FILTER_BYTES_MAX)));
    }
    Filter::parse(filter).map_err(Error::Filter)
}
