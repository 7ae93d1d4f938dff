package avro

import (
	"crypto/md5"
	"crypto/sha256"
	"strconv"
)

// ParsingForm returns the Parsing Canonical Form (Avro specification,
// "Transforming into Parsing Canonical Form"): what a reader of binary data
// needs and nothing else, references written out.
func (s *Schema) ParsingForm() string {
	p := printer{seen: make(map[string]bool)}
	p.parsing(s.root)
	return string(p.b)
}

// CRC64 returns the CRC-64-AVRO fingerprint (Rabin) of the parsing form. Java
// prints it as a signed number.
func (s *Schema) CRC64() uint64 { return CRC64([]byte(s.ParsingForm())) }

// MD5 returns the MD5 fingerprint of the parsing form. It is not the registry's
// identity of a schema, which is over the canonical text.
func (s *Schema) MD5() [md5.Size]byte { return md5.Sum([]byte(s.ParsingForm())) }

// SHA256 returns the SHA-256 fingerprint of the parsing form.
func (s *Schema) SHA256() [sha256.Size]byte { return sha256.Sum256([]byte(s.ParsingForm())) }

const crcEmpty = 0xc15d213aa4d7a795

var crcTable = func() (table [256]uint64) {
	for i := range table {
		v := uint64(i)
		for range 8 {
			v = v>>1 ^ crcEmpty&-(v&1)
		}
		table[i] = v
	}
	return table
}()

// CRC64 returns the CRC-64-AVRO checksum of data (Avro specification, "Schema
// Fingerprints").
func CRC64(data []byte) uint64 {
	sum := uint64(crcEmpty)
	for _, c := range data {
		sum = sum>>8 ^ crcTable[byte(sum)^c]
	}
	return sum
}

func (p *printer) parsing(t *Type) {
	switch t.kind {
	case Union:
		p.raw("[")
		for i, b := range t.branches {
			if i > 0 {
				p.raw(",")
			}
			p.parsing(b)
		}
		p.raw("]")
	case Array:
		p.raw(`{"type":"array","items":`)
		p.parsing(t.elem)
		p.raw("}")
	case Map:
		p.raw(`{"type":"map","values":`)
		p.parsing(t.elem)
		p.raw("}")
	case Record, Enum, Fixed:
		p.parsingNamed(t)
	default:
		p.raw(`"` + t.kind.String() + `"`)
	}
}

func (p *printer) parsingNamed(t *Type) {
	if p.seen[t.full] {
		p.text(t.full)
		return
	}
	p.seen[t.full] = true
	p.raw(`{"name":`)
	p.text(t.full)
	p.raw(`,"type":"` + t.kind.String() + `"`)
	switch t.kind {
	case Enum:
		p.texts("symbols", t.symbols)
	case Fixed:
		p.raw(`,"size":` + strconv.Itoa(t.size))
	case Record:
		p.raw(`,"fields":[`)
		for i := range t.fields {
			if i > 0 {
				p.raw(",")
			}
			p.raw(`{"name":`)
			p.text(t.fields[i].name)
			p.raw(`,"type":`)
			p.parsing(t.fields[i].typ)
			p.raw("}")
		}
		p.raw("]")
	}
	p.raw("}")
}
