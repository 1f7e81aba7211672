package session

import "syscall"

func changeTime(st *syscall.Stat_t) (sec, nanos int64) { return st.Ctimespec.Sec, st.Ctimespec.Nsec }
