/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What our objects call and is not made to fail, and why: FAULT_OTHERS(reason, names). A new call
 * stands here or in fault_calls.h, else the suite says so.
 */
FAULT_OTHERS(
	"works on memory that is there",
	"_GLOBAL_OFFSET_TABLE_ __cmsg_nxthdr __errno_location __isoc99_sscanf __isoc23_sscanf "
	"__isoc23_strtoul "
	"__isoc23_strtoull __libc_single_threaded __tls_get_addr basename bsearch fnmatch free "
	"freelocale getopt_long gnu_dev_major gnu_dev_makedev gnu_dev_minor memchr memcmp memcpy "
	"memmem memmove mempcpy memset memrchr "
	"optarg optind qsort sigemptyset sigfillset snprintf stderr stdout strchr strchrnul "
	"stpcpy strcmp strcpy strcspn strerror strerrordesc_np strlen strncat strncmp "
	"strnlen strpbrk strrchr strsep strspn strstr strtok_r strtoul strtoull uselocale "
	"vsnprintf")
FAULT_OTHERS(
	"only asks what can always be told",
	"clock_gettime getegid getenv geteuid getpid "
	"getppid gettid pthread_getcpuclockid pthread_self secure_getenv sd_listen_fds_with_names "
	"sd_watchdog_enabled sysconf sysinfo time")
FAULT_OTHERS("can't fail, or fails where there is nothing to be done",
	     "close close_range closedir event_active event_assign event_base_free "
	     "event_base_loopbreak event_config_free event_config_set_flag event_del event_free "
	     "event_get_events event_pending fclose fwrite fprintf inotify_rm_watch kill munmap "
	     "puts pthread_mutex_trylock pthread_mutex_unlock pthread_setcancelstate signal "
	     "sigprocmask umask unsetenv")
FAULT_OTHERS("reads what was just written to a memfd of its own", "pread")
FAULT_OTHERS("can't fail for a timer of one's own", "timerfd_settime")
FAULT_OTHERS("ends the process", "__stack_chk_fail _exit abort exit")
FAULT_OTHERS("the loop: what it calls is libevent's own", "event_base_loop")
FAULT_OTHERS("a lock that nobody holds for long", "pthread_mutex_clocklock")
FAULT_OTHERS("libconfig ends the process where it has no memory",
	     "config_destroy config_init config_read_string config_setting_get_bool "
	     "config_setting_get_elem config_setting_get_int64 config_setting_get_member "
	     "config_setting_get_string config_setting_length")
FAULT_OTHERS("reads what fopen() gave, of /proc", "__isoc99_fscanf __isoc23_fscanf")
FAULT_OTHERS("only in main, before there is a broker", "getcwd sd_is_socket")
FAULT_OTHERS("sd-bus: frees, or tells what it has been told",
	     "sd_bus_close_unref sd_bus_error_free sd_bus_flush_close_unref "
	     "sd_bus_message_get_destination sd_bus_message_get_error "
	     "sd_bus_message_get_interface sd_bus_message_get_member sd_bus_message_get_path "
	     "sd_bus_message_get_sender sd_bus_message_unref sd_bus_object_vtable_format "
	     "sd_bus_slot_unref sd_bus_unref")
FAULT_OTHERS("sd-bus: fails only of what is no connection, or no message that has come",
	     "sd_bus_get_n_queued_write sd_bus_is_open sd_bus_is_ready "
	     "sd_bus_message_get_cookie sd_bus_message_get_expect_reply "
	     "sd_bus_message_has_signature sd_bus_message_is_empty sd_bus_message_is_method_call "
	     "sd_bus_message_rewind sd_bus_message_set_expect_reply sd_bus_set_bus_client "
	     "sd_bus_set_exit_on_disconnect sd_bus_set_method_call_timeout")
FAULT_OTHERS("sd-bus: without memory it sets the error that says so", "sd_bus_error_set_errnof")
