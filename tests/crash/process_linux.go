package crash

import "syscall"

// dieWithParent lets a child go when the test ends, however that is: one that
// lived on would keep the file system of the test alive and hang on it.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
