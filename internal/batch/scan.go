package batch

// recordBytesMin is the smallest record: its length, attributes, two deltas, key, value and header
// count take a byte each.
const recordBytesMin = 7

// headerBytesMin is the smallest record header: the lengths of an empty key and a null value.
const headerBytesMin = 2

// A scanner reads the records of a batch. It keeps the first error and answers zero after it, so
// that it need only be asked when something is done with what was read.
type scanner struct {
	b   []byte
	at  int
	err *Error
}

// fail keeps err if it is the first, and ends the scan.
func (s *scanner) fail(err *Error) {
	if s.err == nil {
		s.err = err
	}
	s.at = len(s.b)
}

func (s *scanner) rest() int { return len(s.b) - s.at }

// varint reads a zigzag-encoded integer of at most 32 bits, in at most 5 bytes.
func (s *scanner) varint(field string) int32 {
	if s.at < len(s.b) && s.b[s.at] < 0x80 {
		u := uint32(s.b[s.at])
		s.at++
		return int32(u>>1) ^ -int32(u&1)
	}
	u := s.uvarint(field, 32)
	return int32(uint32(u)>>1) ^ -int32(u&1)
}

// varlong reads a zigzag-encoded integer of at most 64 bits, in at most 10 bytes.
func (s *scanner) varlong(field string) int64 {
	u := s.uvarint(field, 64)
	return int64(u>>1) ^ -int64(u&1)
}

// uvarint reads groups of 7 bits, the lowest first, that make up at most the given bits.
func (s *scanner) uvarint(field string, bits uint) uint64 {
	var u uint64
	for shift := uint(0); s.at < len(s.b); shift += 7 {
		c := s.b[s.at]
		if shift >= bits || uint64(c&0x7f)>>(bits-shift) != 0 {
			s.fail(corrupt(field, "a varint of too many bits", "at most %d", bits))
			return 0
		}
		s.at++
		u |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return u
		}
	}
	s.fail(corrupt(field, "cut short", "a whole varint"))
	return 0
}

// octet reads one byte.
func (s *scanner) octet(field string) byte {
	if s.rest() == 0 {
		s.fail(corrupt(field, "missing", "one byte"))
		return 0
	}
	s.at++
	return s.b[s.at-1]
}

// bytes reads a length and that many bytes, which alias s.b. A length of -1 is nil, where it is
// allowed; a length of 0 is an empty slice that is not nil.
func (s *scanner) bytes(field string, nullable bool) []byte {
	n := s.varint(field)
	switch {
	case s.err != nil:
		return nil
	case n == -1 && nullable:
		return nil
	case n < 0 || int(n) > s.rest():
		least := 0
		if nullable {
			least = -1
		}
		s.fail(corrupt(field, n, "%d to %d, the bytes that are left", least, s.rest()))
		return nil
	}
	end := s.at + int(n)
	b := s.b[s.at:end:end]
	s.at = end
	return b
}

// A rawRecord is a record as it is encoded, its headers still unread.
type rawRecord struct {
	attributes     int8
	timestampDelta int64
	offsetDelta    int32
	key, value     []byte
	headerCount    int32
	headers        scanner
}

// record reads the next record up to its headers, which r.headers reads. It reports whether that
// went well; if not, s.err says why.
func (s *scanner) record(r *rawRecord) bool {
	body := scanner{b: s.bytes("record length", false)}
	if s.err != nil {
		return false
	}
	r.attributes = int8(body.octet("record attributes"))
	r.timestampDelta = body.varlong("timestamp delta")
	r.offsetDelta = body.varint("offset delta")
	r.key = body.bytes("key length", true)
	r.value = body.bytes("value length", true)
	r.headerCount = body.varint("header count")
	if body.err == nil && (r.headerCount < 0 || int(r.headerCount) > body.rest()/headerBytesMin) {
		body.fail(corrupt("header count", r.headerCount, "0 to %d, as the record's %d bytes left "+
			"can hold", body.rest()/headerBytesMin, body.rest()))
	}
	if body.err != nil {
		s.fail(body.err)
		return false
	}
	r.headers = body
	return true
}

// header reads the next header of a record. The value may be null.
func (s *scanner) header() (key, value []byte) {
	return s.bytes("header key length", false), s.bytes("header value length", true)
}

// end fails if anything is left.
func (s *scanner) end(what string) {
	if s.err == nil && s.rest() > 0 {
		s.fail(corrupt("bytes after "+what, s.rest(), "0"))
	}
}
