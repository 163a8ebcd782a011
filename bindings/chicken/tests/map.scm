;; SPDX-License-Identifier: LGPL-2.1-or-later
;; To be compiled: two processes that open an object by its name and map it, and see one memory. Exit
;; status 0 if so.
(import (chicken base) (chicken file posix) (chicken foreign) (chicken memory) (chicken process)
	shmbroker)

(foreign-declare "#include <sys/mman.h>")

(define size 4096)
(define mmap
  (foreign-lambda* c-pointer ((int fd) (size_t size))
    "void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);"
    "C_return(memory == MAP_FAILED ? NULL : memory);"))

(define (map-object oflags)
  (let ((fd (shm-open "/test-map" oflags)))
    (file-truncate fd size)
    (let ((memory (mmap fd size)))
      (file-close fd)
      memory)))

(define memory (map-object (list open/rdwr open/creat open/excl)))
(define child
  (process-fork (lambda ()
		  (pointer-u8-set! (map-object (list open/rdwr)) 42)
		  (exit 0))))
(process-wait child)
(shm-unlink "/test-map")
(exit (if (= (pointer-u8-ref memory) 42) 0 1))
