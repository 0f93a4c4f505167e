"""A serial line served by RFC 2217 that tells what is done to it.

    rfc2217_server.py

It listens on a port of 127.0.0.1 that the kernel chooses, takes one connection
after the other, and plays the serial line behind it. Each line that it prints is
a JSON object, in the order of events:

    {"connected": true}         a connection came; false: it went
    {"set": {"baudrate": 9600}} a setting was changed; also bytesize, parity, stopbits,
                                xonxoff, rtscts, dtr, rts, break_condition
    {"purge": "input"}          or "output"
    {"heard": "TEXT"}           bytes that came over the line, a character a byte

It takes commands from standard input, one JSON object a line:

    {"say": "TEXT"}             bytes of the far end of the line
    {"lines": {"cts": false}}   modem lines that the far end changes; all are on at first
"""

import json
import select
import socket
import sys

from serial import rfc2217

# How often modem lines are looked at while nothing else happens.
POLL_SECONDS = 0.05


class Line:
    """As much of serial.Serial as PortManager uses."""

    SETTINGS = {
        "baudrate": 9600,
        "bytesize": 8,
        "parity": "N",
        "stopbits": 1,
        "xonxoff": False,
        "rtscts": False,
        "dsrdtr": False,
        "dtr": True,
        "rts": True,
        "break_condition": False,
    }

    def __init__(self):
        self.cts = self.dsr = self.ri = self.cd = True
        self.__dict__.update(self.SETTINGS)

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name in self.SETTINGS:
            tell(set={name: value})

    def reset_input_buffer(self):
        tell(purge="input")

    def reset_output_buffer(self):
        tell(purge="output")


class Connection:
    """What PortManager writes its answers to."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, data):
        self.stream.sendall(data)


def tell(**event):
    print(json.dumps(event), flush=True)


def main():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = Line()
        while True:
            stream, _ = listener.accept()
            with stream:
                tell(connected=True)
                try:
                    serve(stream, line)
                except OSError:
                    pass  # a reset is a way to go
                tell(connected=False)


def serve(stream, line):
    manager = rfc2217.PortManager(line, Connection(stream))
    while True:
        ready, _, _ = select.select([stream, sys.stdin], [], [], POLL_SECONDS)
        if stream in ready:
            data = stream.recv(4096)
            if not data:
                return
            heard = b"".join(manager.filter(data))
            if heard:
                tell(heard=heard.decode("latin-1"))
        if sys.stdin in ready:
            # Readable only when a whole line is there, and one at a time.
            text = sys.stdin.buffer.raw.readline()
            if not text:
                sys.exit(0)
            obey(json.loads(text), manager, stream, line)
        manager.check_modem_lines()


def obey(command, manager, stream, line):
    if "say" in command:
        stream.sendall(b"".join(manager.escape(command["say"].encode("latin-1"))))
    for name, value in command.get("lines", {}).items():
        setattr(line, name, value)


if __name__ == "__main__":
    main()
