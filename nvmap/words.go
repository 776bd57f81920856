package nvmap

// These are the bits of page state words. There is one word for each page of the address space
// reserved. The words live in memory that is committed when touched. They are never reset while the
// map is open, because an old version could then validate by accident.
//
//	bit 0      changing: the page is being changed in place
//	bit 1      frame: the newest bytes are in the DRAM mirror, else on the device
//	bits 2-5   dirty: the device does not have this quarter of the frame yet
//	bit 6      verified: SetVerified was called: the page's checksum was correct
//	bit 7      touched: read since the policy last cleared the bit
//	bit 8      leaving: readers were sent to the device, the frame is still whole
//	bit 9      busy: one goroutine fills the frame, or gives its memory back
//	bit 10     counted: the frame counts towards the bound
//	bits 12..  version: grows with every change, so that a reader can detect it
const (
	stateChanging = 1 << 0
	stateFrame    = 1 << 1
	stateDirty    = 15 << dirtyShift
	stateVerified = 1 << 6
	stateTouched  = 1 << 7
	stateLeaving  = 1 << 8
	stateBusy     = 1 << 9
	stateCounted  = 1 << 10
	stateVersion  = 1 << 12

	dirtyShift = 2
	partBytes  = PageBytes / 4

	// stateSeen masks the bits that must be unchanged for a reader that saw version v. The place of
	// the bytes may change, because moving between device and frame changes no byte.
	stateSeen = stateChanging | ^uint64(stateVersion-1)
)

// partsOf returns the dirty bits of bytes [from, to) of a page.
func partsOf(from, to int) uint64 {
	return (1<<(uint(to+partBytes-1)/partBytes) - 1<<(uint(from)/partBytes)) << dirtyShift
}

// Version is the state of a page when a reader began. It is only an argument for ReadValid.
type Version uint64

// Place is the place of the newest bytes of a page.
type Place uint8

// The places of a page.
const (
	OnDevice   Place = iota // no frame; read through the device's mapping
	FrameClean              // in a frame and on the device
	FrameDirty              // in a frame only
)

func (p Place) String() string {
	switch p {
	case OnDevice:
		return "device"
	case FrameClean:
		return "clean frame"
	case FrameDirty:
		return "dirty frame"
	}
	return "unknown"
}
