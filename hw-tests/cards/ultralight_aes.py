#!/usr/bin/python3
"""A virtual MIFARE Ultralight AES in the protocol of the vsmartcard project (vpcd), for the port that a
simulated reader opens for chips: what comes are frames of ISO/IEC 14443-3 without their checksums.

It is the chip's side, written after NXP's data sheet MF0AES(H)20 and AN13452, apart from the till in another
language and on another cryptographic library (PyCryptodome), so that one slip cannot agree with itself.

    ultralight_aes.py PORT UID DATA_KEY UID_KEY [--version N] [--open] [--no-mac] [--record FILE | --replay FILE]
    ultralight_aes.py PORT UID --bare
    ultralight_aes.py PORT UID --memory FILE [--tear COUNT]

The keys are DataProtKey and UIDRetrKey in hex. Its page 04 carries the mark CA17AE and the version of
its keys. It shows another UID at every power-up; with --open its real one. With --no-mac it takes commands
after an authentication without a MAC, as one does that was set up carelessly. --bare is a chip that says any UID
and knows nothing: the memory of a plain Ultralight.

With --memory the chip is what FILE says and remembers there what is written on it; without the FILE it is
fresh from the factory. What is written counts from its next power-up on, but for its mark. With --tear it is torn
away when it has answered COUNT frames, doing the one after them without a word.

With --record every answer is written to FILE, one line each; with --replay these answers are given, in
turn, instead of own ones.
"""

import argparse
import json
import os
import socket
import struct

from Cryptodome.Cipher import AES
from Cryptodome.Hash import CMAC

# A storage chip of 14443 type A, MIFARE Ultralight, as PC/SC part 3 names it.
ATR = bytes.fromhex("3B8F8001804F0CA0000003060300030000000068")
READ_UID = bytes.fromhex("FFCA000000")
# Refusals have four bits; a reader delivers them as one byte.
NAK = b"\x00"
MUTE = b""
# An acknowledgement has four bits, too.
ACK = b"\x0A"
DATA, RETRIEVAL = 0, 1


def cbc(key):
    return AES.new(key, AES.MODE_CBC, iv=bytes(16))


def cmac(key, message):
    return CMAC.new(key, msg=message, ciphermod=AES).digest()


def session_key(key, rnd_a, rnd_b):
    mixed = bytes(a ^ b for a, b in zip(rnd_a[2:8], rnd_b[:6]))
    context = rnd_a[:2] + mixed + rnd_b[6:] + rnd_a[8:]
    return cmac(key, b"\x5A\xA5\x00\x01\x00\x80" + context)


def message_mac(key, counter, message):
    return cmac(key, struct.pack("<H", counter) + message)[1::2]


class Torn(Exception):
    """It was taken away in the middle of a command."""


class Chip:
    """Its 60 pages; the keys are pages like others, each with its last byte first, and never read."""

    def __init__(self, uid, memory, path=None, tear=None):
        self.uid = uid
        self.memory = memory
        self.path = path
        self.left = tear
        self.power_up()

    @staticmethod
    def set_up(uid, keys, version, random_uid=True, has_mac=True):
        """As a supplier sets it up, or without keys: a plain Ultralight."""
        memory = bytearray(60 * 4)
        if keys:
            memory[0x04 * 4 : 0x05 * 4] = bytes.fromhex("CA17AE") + bytes([version])
            flags = (0x01 if random_uid else 0) | (0x02 if has_mac else 0)
            # CFG0: RID_ACT, SEC_MSG_ACT; AUTH0 is page 04. CFG1: reading is free; AUTHLIM is 256.
            memory[0x29 * 4 : 0x2A * 4] = bytes([flags, 0, 0, 0x04])
            memory[0x2A * 4 : 0x2B * 4] = bytes([0, 0x05, 0x00, 0x01])
            memory[0x30 * 4 : 0x38 * 4] = keys[DATA][::-1] + keys[RETRIEVAL][::-1]
        return Chip(uid, memory if keys else None)

    @staticmethod
    def remembering(uid, path, tear):
        if os.path.exists(path):
            with open(path) as file:
                memory = bytearray.fromhex(json.load(file)["pages"])
        else:
            memory = bytearray(60 * 4)
            memory[0x29 * 4 : 0x2A * 4] = bytes([0, 0, 0, 0x3C])
            memory[0x2A * 4 : 0x2B * 4] = bytes([0, 0x05, 0, 0])
        return Chip(uid, memory, path, tear)

    def remember(self):
        with open(self.path + ".new", "w") as file:
            json.dump({"pages": self.memory.hex(), "key_version": self.memory[0x04 * 4 + 3]}, file)
        os.rename(self.path + ".new", self.path)

    def power_up(self):
        """Keys and settings are taken over now."""
        memory = self.memory or bytes(60 * 4)
        flags = memory[0x29 * 4]
        self.random_uid = bool(flags & 0x01)
        self.has_mac = bool(flags & 0x02)
        self.first_guarded = memory[0x29 * 4 + 3]
        self.keys = None
        if self.memory:
            data, retrieval = memory[0x30 * 4 : 0x34 * 4], memory[0x34 * 4 : 0x38 * 4]
            self.keys = [bytes(data[::-1]), bytes(retrieval[::-1])]
        self.shown = b"\x08" + os.urandom(3) if self.random_uid else self.uid
        self.select()

    def select(self):
        self.challenge = None
        self.session = None
        self.is_halted = False

    def refuse(self):
        """It is idle then, and answers nothing until it is selected anew."""
        self.select()
        self.is_halted = True
        return NAK

    def handle(self, frame):
        if frame == READ_UID:
            return self.shown + b"\x90\x00"
        answer = self.answer(frame)
        if self.left is not None:
            if self.left == 0:
                raise Torn
            self.left -= 1
        return answer

    def answer(self, frame):
        if self.is_halted:
            return MUTE
        if len(frame) == 2 and frame[0] == 0x1A and self.keys and frame[1] in (DATA, RETRIEVAL):
            return self.first_part(frame[1])
        if self.challenge:
            return self.second_part(frame)
        if self.session and self.has_mac:
            return self.guarded(frame)
        return self.command(frame)

    def first_part(self, number):
        self.select()
        rnd_b = os.urandom(16)
        self.challenge = (number, rnd_b)
        return b"\xAF" + cbc(self.keys[number]).encrypt(rnd_b)

    def second_part(self, frame):
        (number, rnd_b), self.challenge = self.challenge, None
        if len(frame) != 33 or frame[0] != 0xAF:
            return self.refuse()
        plain = cbc(self.keys[number]).decrypt(frame[1:])
        rnd_a, turned = plain[:16], plain[16:]
        if turned != rnd_b[1:] + rnd_b[:1]:
            return self.refuse()
        self.session = (number, session_key(self.keys[number], rnd_a, rnd_b), 0)
        return b"\x00" + cbc(self.keys[number]).encrypt(rnd_a[1:] + rnd_a[:1])

    def guarded(self, frame):
        number, key, counter = self.session
        command, sent = frame[:-8], frame[-8:]
        if not command:
            # Seen on real chips: what carries no MAC is not even refused.
            self.refuse()
            return MUTE
        if sent != message_mac(key, counter, command):
            return self.refuse()
        answer = self.command(command)
        if answer == NAK:
            return answer
        self.session = (number, key, counter + 2)
        # What was done is said by the MAC alone.
        said = b"" if answer == ACK else answer
        return said + message_mac(key, counter + 1, said)

    def command(self, frame):
        if frame == b"\x60" and self.memory:
            return bytes.fromhex("0004030104000F03")
        if len(frame) == 2 and frame[0] == 0x30 and frame[1] < 60:
            return self.read(frame[1])
        if len(frame) == 6 and frame[0] == 0xA2 and self.may_write(frame[1]):
            return self.write(frame[1], frame[2:])
        return self.refuse()

    def may_write(self, page):
        """Of the pages behind the UID, the locks and the counters; the guarded ones by their key only."""
        if not self.memory or not (0x04 <= page <= 0x27 or page in (0x29, 0x2A, 0x2D) or 0x30 <= page <= 0x37):
            return False
        is_owner = self.session and self.session[0] == DATA
        return page < self.first_guarded or is_owner

    def write(self, page, data):
        self.memory[page * 4 : page * 4 + 4] = data
        if self.path:
            self.remember()
        return ACK

    def read(self, page):
        """The real UID stands in its pages once it was opened; the keys are never read."""
        memory = bytearray(self.memory or bytes(60 * 4))
        memory[0x30 * 4 : 0x38 * 4] = bytes(32)
        is_open = self.session and self.session[0] == RETRIEVAL
        if not self.random_uid or is_open:
            uid = self.uid if len(self.uid) == 7 else self.uid + bytes(3)
            check = 0x88 ^ uid[0] ^ uid[1] ^ uid[2]
            memory[:8] = uid[:3] + bytes([check]) + uid[3:]
            memory[8] = uid[3] ^ uid[4] ^ uid[5] ^ uid[6]
        memory = memory + memory
        return bytes(memory[page * 4 : page * 4 + 16])


class Recording:
    """What a chip said once, said again."""

    def __init__(self, path):
        with open(path) as file:
            self.answers = [bytes.fromhex(line) for line in file]
        self.power_up()

    def power_up(self):
        self.left = list(self.answers)

    def select(self):
        self.power_up()
        # The reading of the UID came before it.
        self.left.pop(0)

    def handle(self, frame):
        return self.left.pop(0) if self.left else MUTE


def hear(line):
    def whole(length):
        heard = b""
        while len(heard) < length:
            part = line.recv(length - len(heard))
            if not part:
                raise EOFError
            heard += part
        return heard

    (length,) = struct.unpack(">H", whole(2))
    return whole(length)


def serve(line, chip, record):
    said = []
    while True:
        message = hear(line)
        if message in (b"\0", b"\1"):
            chip.power_up()
            said = []
            continue
        if message == b"\2":
            # Selected anew, without a loss of power.
            chip.select()
            said = said[:1]
            continue
        answer = ATR if message == b"\4" else chip.handle(message)
        if message != b"\4" and record:
            said.append(answer)
            with open(record, "w") as file:
                file.writelines(answer.hex() + "\n" for answer in said)
        line.sendall(struct.pack(">H", len(answer)) + answer)


def check_examples():
    """AN13452: an authentication with the factory key, its session key, the MAC of GET_VERSION."""
    chip = Chip.set_up(bytes(7), [bytes(16)] * 2, 1)
    rnd_b = bytes.fromhex("0D2BBA17011098E9864C8AA5192AF796")
    assert cbc(bytes(16)).encrypt(rnd_b).hex() == "374142dafb0ab97183d846eb7ed379e0"
    chip.challenge = (DATA, rnd_b)
    answer = chip.handle(bytes.fromhex("AF794693B2A31E7F10964A2BD834590AC485F84E9F8B13197AB32433346F60B821"))
    assert answer.hex() == "00a17673dcc20d27ee80584accfc39e0a3", answer.hex()
    key = chip.session[1]
    assert key.hex() == "d6b4f8ac7a66cfa041dc179a154543bf", key.hex()
    assert message_mac(key, 0, b"\x60").hex() == "1d5de802d6751670"


def main():
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("port", type=int)
    words.add_argument("uid", type=bytes.fromhex)
    words.add_argument("keys", nargs="*", type=bytes.fromhex)
    words.add_argument("--version", type=int, default=1)
    words.add_argument("--open", action="store_true")
    words.add_argument("--no-mac", action="store_true")
    words.add_argument("--bare", action="store_true")
    words.add_argument("--memory")
    words.add_argument("--tear", type=int)
    words.add_argument("--record")
    words.add_argument("--replay")
    wanted = words.parse_args()
    check_examples()
    if wanted.replay:
        chip = Recording(wanted.replay)
    elif wanted.memory:
        chip = Chip.remembering(wanted.uid, wanted.memory, wanted.tear)
    elif wanted.bare:
        chip = Chip.set_up(wanted.uid, None, 0)
    else:
        chip = Chip.set_up(wanted.uid, wanted.keys, wanted.version, not wanted.open, not wanted.no_mac)
    with socket.create_connection(("127.0.0.1", wanted.port)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            serve(line, chip, wanted.record)
        except (EOFError, ConnectionError, Torn):
            # The reader has been switched off, or the chip lifted.
            pass


if __name__ == "__main__":
    main()
