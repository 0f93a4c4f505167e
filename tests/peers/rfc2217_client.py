"""A serial port at the other end of RFC 2217 that does as it is told.

    rfc2217_client.py rfc2217://HOST:PORT[?OPTION]

It opens the port and then takes commands from standard input, a JSON object with
one member a line:

    {"set": {"baudrate": 9600, "parity": "E"}}   also bytesize, stopbits, dtr, rts,
                                                 xonxoff, rtscts
    {"break": SECONDS}
    {"lines": null}                              the modem lines as last told
    {"write": "TEXT"}                            a character a byte (Latin-1)
    {"read": N}                                  waits for N bytes
    {"purge": "input"}                           or "output"

After the opening and after each command it prints a line: {"ok": RESULT}, or
{"error": "TEXT"} when the other end refused or did not answer in time.
"""

import json
import sys
import time

import serial

READ_SECONDS = 30


def main(url):
    port = answer(lambda: serial.serial_for_url(url, timeout=READ_SECONDS), lambda _: None)
    if port is None:
        return 1
    for line in sys.stdin:
        ((command, argument),) = json.loads(line).items()
        answer(lambda: COMMANDS[command](port, argument))
    port.close()
    return 0


def answer(call, shown=lambda result: result):
    """Calls, prints what came of it, and returns that."""
    result = None
    try:
        result = call()
        line = {"ok": shown(result)}
    except (ValueError, OSError) as error:
        # SerialException is an OSError.
        line = {"error": str(error)}
    print(json.dumps(line), flush=True)
    return result


def change(port, settings):
    for name, value in settings.items():
        setattr(port, name, value)
    return {name: getattr(port, name) for name in settings}


def send_break(port, seconds):
    port.break_condition = True
    time.sleep(seconds)
    port.break_condition = False


def write(port, text):
    return port.write(text.encode("latin-1"))


def read(port, count):
    return port.read(count).decode("latin-1")


def lines(port, _):
    return {name: getattr(port, name) for name in ("cts", "dsr", "ri", "cd")}


def purge(port, buffer):
    if buffer == "input":
        port.reset_input_buffer()
    else:
        port.reset_output_buffer()


COMMANDS = {
    "set": change,
    "break": send_break,
    "lines": lines,
    "write": write,
    "read": read,
    "purge": purge,
}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
