package batch

import "encoding/binary"

// Marker says how a transaction ended: the type in the key of a control record (KIP-98).
type Marker int16

// The markers that end a transaction.
const (
	MarkerAbort  Marker = 0
	MarkerCommit Marker = 1
)

// String names the marker in lower case.
func (m Marker) String() string {
	if m == MarkerCommit {
		return "commit"
	}
	return "abort"
}

// ControlType reads the key of a control record, two int16: version and type. It is false for a
// key that is too short, and for types other than commit and abort, which readers must skip.
// Versions to come may be longer.
func ControlType(key []byte) (Marker, bool) {
	if len(key) < 4 || int16(binary.BigEndian.Uint16(key)) < 0 {
		return 0, false
	}
	m := Marker(binary.BigEndian.Uint16(key[2:]))
	return m, m == MarkerAbort || m == MarkerCommit
}

// ControlKey is the key of the control record that ends a transaction with m.
func ControlKey(m Marker) []byte {
	return binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(m))
}

// ControlValue is the value of that record: version 0 and the epoch of the transaction
// coordinator that wrote it, so that one that has been replaced can be told.
func ControlValue(coordinatorEpoch int32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, 0}, uint32(coordinatorEpoch))
}

// ControlEpoch reads the coordinator's epoch from the value of a control record. It is false for a
// value that is too short.
func ControlEpoch(value []byte) (int32, bool) {
	if len(value) < 6 || int16(binary.BigEndian.Uint16(value)) < 0 {
		return 0, false
	}
	return int32(binary.BigEndian.Uint32(value[2:])), true
}
