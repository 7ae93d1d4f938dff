package batch

// Check does all that a broker must do with a batch that a client has encoded before it stores
// it: Verify, then decompress it within l and walk every record. It returns the header of a batch
// that every reader can decode, whose offset deltas are 0 to Count-1 in order and whose
// MaxTimestamp is that of its latest record. It refuses what only brokers may write: control
// batches, append times and delete horizons. It does not compare anything with what came before,
// such as producer epochs and sequences. Errors: *Error of kind Corrupt, or TooLarge for what is
// over a limit.
func Check(b []byte, l Limits) (Header, error) {
	l = l.filled()
	if len(b) > l.MaxBatchBytes {
		return Header{}, tooLarge("size", len(b), "at most %d bytes", l.MaxBatchBytes)
	}
	h, err := Verify(b)
	if err != nil {
		return Header{}, err
	}
	if err := checkClientHeader(h, l); err != nil {
		return Header{}, err
	}
	data := b[HeaderBytes:]
	if h.Codec() != None {
		d := decompressors.Get().(*decompressor)
		defer d.release()
		if data, _, err = d.decompress(h.Codec(), data, l.MaxDecompressedBytes); err != nil {
			return Header{}, err
		}
	}
	if err := checkRecords(data, h, l); err != nil {
		return Header{}, err
	}
	return h, nil
}

// checkClientHeader returns what a client may not write into a header, or nil.
func checkClientHeader(h Header, l Limits) error {
	_, horizon := h.DeleteHorizon()
	switch {
	case h.Attributes&^attrKnown != 0:
		return corrupt("attributes", h.Attributes, "bits 7 to 15 clear")
	case !h.Codec().known():
		return corrupt("codec", int8(h.Codec()),
			"0 (none), 1 (gzip), 2 (snappy), 3 (lz4) or 4 (zstd)")
	case h.Control():
		return corrupt("control bit", "set", "clear: only brokers write control batches")
	case h.LogAppendTime():
		return corrupt("timestamp type bit", "set", "clear: only brokers set the append time")
	case horizon:
		return corrupt("delete horizon bit", "set", "clear: only brokers set it")
	case int64(h.Count) != int64(h.LastOffsetDelta)+1:
		return corrupt("record count", h.Count, "the last offset delta + 1, %d",
			int64(h.LastOffsetDelta)+1)
	case int(h.Count) > l.MaxRecords:
		return tooLarge("record count", h.Count, "at most %d", l.MaxRecords)
	case h.BaseTimestamp < NoTimestamp:
		return corrupt("base timestamp", h.BaseTimestamp, "0 or more, or -1 for none")
	case h.ProducerID < NoProducerID:
		return corrupt("producer id", h.ProducerID, "0 or more, or -1 for none")
	case h.ProducerID == NoProducerID && h.Transactional():
		return corrupt("producer id", h.ProducerID, "0 or more in a transactional batch")
	case h.ProducerID >= 0 && h.ProducerEpoch < 0:
		return corrupt("producer epoch", h.ProducerEpoch, "0 or more with a producer id")
	case h.ProducerID >= 0 && h.BaseSequence < 0:
		return corrupt("base sequence", h.BaseSequence, "0 or more with a producer id")
	}
	return nil
}

// checkRecords walks the decompressed records of a client's batch.
func checkRecords(data []byte, h Header, l Limits) error {
	s := scanner{b: data}
	latest := int64(NoTimestamp)
	var r rawRecord
	for i := range int(h.Count) {
		if s.rest() == 0 {
			return corrupt("record count", h.Count, "%d, the records that there are", i)
		}
		if !s.record(&r) {
			return s.err.at(i)
		}
		if int(r.offsetDelta) != i {
			return corrupt("offset delta", r.offsetDelta, "%d", i).at(i)
		}
		// A sum beyond int64 becomes negative, as the base is not; but the base -1 and the least
		// delta make the largest timestamp, as they should.
		timestamp := h.BaseTimestamp + r.timestampDelta
		if timestamp < NoTimestamp {
			return corrupt("timestamp delta", r.timestampDelta,
				"a timestamp of 0 or more, or -1 for none, with the base %d", h.BaseTimestamp).at(i)
		}
		latest = max(latest, timestamp)
		if err := checkRecord(&r, l); err != nil {
			return err.at(i)
		}
	}
	if s.end("the last record"); s.err != nil {
		return s.err
	}
	if latest != h.MaxTimestamp {
		return corrupt("max timestamp", h.MaxTimestamp, "%d, the latest of the records", latest)
	}
	return nil
}

// checkRecord reads the headers of r and holds it to l.
func checkRecord(r *rawRecord, l Limits) *Error {
	if err := l.checkKey(len(r.key)); err != nil {
		return err
	}
	if err := l.checkHeaders(int(r.headerCount)); err != nil {
		return err
	}
	for range r.headerCount {
		key, value := r.headers.header()
		if r.headers.err != nil {
			return r.headers.err
		}
		if err := l.checkHeader(len(key) + len(value)); err != nil {
			return err
		}
	}
	r.headers.end("the record's last header")
	return r.headers.err
}
