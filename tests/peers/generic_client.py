"""A client that knows nothing of Lineman but its address, CA and token.

What it knows of the API it learns from the server by reflection, as grpcurl and
graphical clients do. It shows that another implementation of gRPC and protobuf
than the server's own can use everything: unary calls, both kinds of streams,
TLS, tokens, reflection and health.

    generic_client.py ADDRESS CA_FILE TOKEN_FILE

It makes a pty device and prints `pty PATH`. Whoever plays the far side then says
`GREETING`, and answers `TYPED` with `ANSWER`. Ends with code 0 if all went as it
should.
"""

import queue
import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

DEADLINE_SECONDS = 60
# Ends with half a character; the text form must not lose its place over it.
GREETING = "Grüße\r\n".encode() + b"\xff\xe2\x82"
TYPED = "versión\r".encode()
ANSWER = b"U-Boot\r\n"


class Api:
    """Services by name, as the server describes them."""

    def __init__(self, channel):
        self.channel = channel
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self.pool = DescriptorPool(self.database)

    def services(self):
        return set(self.database.get_services())

    def message(self, name, /, **fields):
        return GetMessageClass(self.pool.FindMessageTypeByName(name))(**fields)

    def call(self, service, method, request, channel=None):
        """`request` is a message, or an iterator of them if the method takes a stream."""
        descriptor = self.pool.FindServiceByName(service).FindMethodByName(method)
        streams = (descriptor.client_streaming, descriptor.server_streaming)
        kind = "_".join("stream" if each else "unary" for each in streams)
        answer = GetMessageClass(descriptor.output_type)
        stub = getattr(channel or self.channel, kind)(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return stub(request, timeout=DEADLINE_SECONDS)

    def devices(self, method, request, /, **fields):
        request = self.message(f"lineman.v1.{request}", **fields)
        return self.call("lineman.v1.DeviceService", method, request)


def main(address, ca_file, token_file):
    with open(ca_file, "rb") as file:
        tls = grpc.ssl_channel_credentials(file.read())
    with open(token_file) as file:
        token = grpc.access_token_call_credentials(file.read().strip())
    with (
        grpc.secure_channel(address, tls) as anonymous,
        grpc.secure_channel(address, grpc.composite_channel_credentials(tls, token)) as channel,
    ):
        api = Api(channel)
        check_services(api)
        check_strangers(api, anonymous)
        device = api.devices(
            "CreateDevice", "CreateDeviceRequest", device_id="generic", device={"spec": {"pty": {}}}
        )
        pty_path = until_open(api, device.name)
        print("pty", pty_path, flush=True)
        check_output(api, device.name)
        check_attachment(api, device.name)
        api.devices("DeleteDevice", "DeleteDeviceRequest", name=device.name)
        left = api.devices("ListDevices", "ListDevicesRequest").devices
        equal([each.name for each in left], [])


def check_services(api):
    missing = {
        "grpc.health.v1.Health",
        "lineman.v1.ConsoleService",
        "lineman.v1.DeviceService",
    } - api.services()
    equal(missing, set())


def check_strangers(api, anonymous):
    """Without a token there is health, and nothing else."""
    request = api.message("grpc.health.v1.HealthCheckRequest")
    answer = api.call("grpc.health.v1.Health", "Check", request, anonymous)
    equal(answer.status, 1)  # SERVING
    unauthenticated(lambda: ProtoReflectionDescriptorDatabase(anonymous).get_services())
    request = api.message("lineman.v1.ListDevicesRequest")
    unauthenticated(lambda: api.call("lineman.v1.DeviceService", "ListDevices", request, anonymous))


def until_open(api, name):
    """Follows the device until its pty can be opened."""
    request = api.message("lineman.v1.WatchDevicesRequest")
    watch = api.call("lineman.v1.DeviceService", "WatchDevices", request)
    for event in watch:
        if event.device.name == name and event.device.status.pty_path:
            watch.cancel()
            return event.device.status.pty_path
    raise AssertionError("the watch ended")


def check_output(api, name):
    """The greeting, exactly and as text."""
    data, _ = read(api, name, encoding=1)  # BYTES
    equal(b"".join(output.data for output in data), GREETING)
    text, length = read(api, name, encoding=2)  # TEXT
    shown = "".join(output.text for output in text)
    equal(shown.rstrip("\ufffd"), "Grüße\r\n")
    equal(any(output.lossy for output in text), True)
    equal(any(output.data for output in text), False)
    equal(length, len(GREETING))


def read(api, name, encoding):
    """The output up to the end of the greeting, and the length it stands for."""
    request = api.message(
        "lineman.v1.ReadOutputRequest",
        device=name,
        follow=True,
        until_offset=len(GREETING),
        encoding=encoding,
    )
    responses = list(api.call("lineman.v1.ConsoleService", "ReadOutput", request))
    equal(responses[0].WhichOneof("message"), "started")
    outputs = [each.output for each in responses[1:] if each.WhichOneof("message") == "output"]
    return outputs, sum(output.length for output in outputs)


def check_attachment(api, name):
    """Types, and sees its input acknowledged and answered."""
    requests = queue.SimpleQueue()

    def send(**fields):
        requests.put(api.message("lineman.v1.AttachRequest", **fields))

    send(start={"device": name, "mode": 2, "from": {"edge": 2}})  # WRITE, BEGINNING
    attachment = api.call("lineman.v1.ConsoleService", "Attach", iter(requests.get, None))
    started = next(attachment).started
    equal(started.offset, 0)
    equal(started.writer.is_me, True)
    send(input={"data": TYPED, "offset": 0})
    seen, accepted = b"", 0
    for response in attachment:
        kind = response.WhichOneof("message")
        if kind == "output":
            equal(response.output.offset, len(seen))
            seen += response.output.data
        elif kind == "input_ack":
            equal(response.input_ack.refusal, 0)
            accepted = response.input_ack.offset
        if accepted == len(TYPED) and len(seen) >= len(GREETING + ANSWER):
            break
    equal(seen, GREETING + ANSWER)
    attachment.cancel()
    requests.put(None)


def unauthenticated(call):
    try:
        call()
    except grpc.RpcError as error:
        equal(error.code(), grpc.StatusCode.UNAUTHENTICATED)
    else:
        raise AssertionError("a stranger was let in")


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r} is not {expected!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
