/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Boost.Interprocess's shared_memory_object, managed_shared_memory and what is built on them,
 * between a process and its child. Prints what each step came to.
 */
#include <boost/interprocess/containers/string.hpp>
#include <boost/interprocess/containers/vector.hpp>
#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <boost/interprocess/shared_memory_object.hpp>
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <boost/interprocess/sync/scoped_lock.hpp>

#include <cstring>
#include <iostream>
#include <numeric>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

using namespace boost::interprocess;

typedef allocator<int, managed_shared_memory::segment_manager> int_allocator;
typedef vector<int, int_allocator> shared_vector;

static int exit_status;

static void step(const char *what, bool good)
{
	std::cout << what << (good ? ": as it should be" : ": WRONG") << std::endl;
	if (!good)
		exit_status = 1;
}

/* What the function returns, in a child. */
template <class Function> static bool in_child(Function function)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		bool good = false;

		try {
			good = function();
		} catch (const std::exception &error) {
			std::cerr << "child: " << error.what() << std::endl;
		}
		_exit(good ? 0 : 1);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

template <class Function> static bool refused(error_code_t code, Function function)
{
	try {
		function();
	} catch (const interprocess_exception &error) {
		return error.get_error_code() == code;
	}
	return false;
}

static void objects(const std::string &name)
{
	shared_memory_object object(create_only, name.c_str(), read_write, permissions(0600));
	offset_t size = 0;

	object.truncate(10000);
	step("an object has the size that it was given", object.get_size(size) && size == 10000);
	mapped_region region(object, read_write);
	std::memset(region.get_address(), 0x5a, region.get_size());
	step("a child reads what is in it", in_child([&] {
		     shared_memory_object again(open_only, name.c_str(), read_only);
		     mapped_region seen(again, read_only);
		     const char *bytes = static_cast<const char *>(seen.get_address());

		     for (size_t i = 0; i < seen.get_size(); i++)
			     if (bytes[i] != 0x5a)
				     return false;
		     return seen.get_size() == 10000;
	     }));
	step("it can't be created twice", refused(already_exists_error, [&] {
		     shared_memory_object(create_only, name.c_str(), read_write);
	     }));
	step("read-only can't be mapped for writing",
	     refused(other_error, [&] {
		     shared_memory_object again(open_only, name.c_str(), read_only);
		     mapped_region seen(again, read_write);
	     }) || refused(security_error, [&] {
		     shared_memory_object again(open_only, name.c_str(), read_only);
		     mapped_region seen(again, read_write);
	     }));
	shared_memory_object opened(open_or_create, name.c_str(), read_write);
	step("open_or_create finds it", opened.get_size(size) && size == 10000);
	step("it is removed", shared_memory_object::remove(name.c_str()));
	step("only once", !shared_memory_object::remove(name.c_str()));
	step("then it isn't found", refused(not_found_error, [&] {
		     shared_memory_object(open_only, name.c_str(), read_only);
	     }));
	/* From Boost's manual: a name without, and with a slash. */
	shared_memory_object slashed(create_only, ("/" + name).c_str(), read_write);
	step("with a slash it is the same name", shared_memory_object::remove(name.c_str()));
}

static void managed(const std::string &name)
{
	{
		managed_shared_memory segment(create_only, name.c_str(), 65536);
		int_allocator allocator(segment.get_segment_manager());
		shared_vector *numbers = segment.construct<shared_vector>("numbers")(allocator);

		segment.construct<interprocess_mutex>("mutex")();
		step("a child fills a vector under a mutex", in_child([&] {
			     managed_shared_memory same(open_only, name.c_str());
			     shared_vector *seen = same.find<shared_vector>("numbers").first;
			     scoped_lock<interprocess_mutex> lock(
				     *same.find<interprocess_mutex>("mutex").first);

			     for (int i = 1; i <= 1000; i++)
				     seen->push_back(i);
			     return true;
		     }));
		scoped_lock<interprocess_mutex> lock(
			*segment.find<interprocess_mutex>("mutex").first);
		step("its parent has the sum",
		     std::accumulate(numbers->begin(), numbers->end(), 0) == 500500);
		step("what is too large is refused and leaves the rest", [&] {
			try {
				segment.allocate(1 << 20);
			} catch (const bad_alloc &) {
				return segment.check_sanity();
			}
			return false;
		}());
	}
	step("a segment grows", managed_shared_memory::grow(name.c_str(), 1 << 20));
	{
		managed_shared_memory segment(open_or_create, name.c_str(), 65536);

		step("and has room then",
		     segment.get_size() == 65536 + (1 << 20) && segment.allocate(1 << 19) &&
			     segment.find<shared_vector>("numbers").second == 1);
		segment.destroy<shared_vector>("numbers");
	}
	{
		managed_shared_memory readers(open_read_only, name.c_str());

		step("it is opened for reading alone",
		     readers.find<shared_vector>("numbers").second == 0 &&
			     readers.find<interprocess_mutex>("mutex").second == 1);
	}
	step("it shrinks", managed_shared_memory::shrink_to_fit(name.c_str()));
	step("it is removed", shared_memory_object::remove(name.c_str()));
}

static void messages(const std::string &name)
{
	message_queue queue(create_only, name.c_str(), 10, sizeof(int));
	int sum = 0;

	step("a child sends through a queue", in_child([&] {
		     message_queue same(open_only, name.c_str());

		     for (int i = 1; i <= 10; i++)
			     same.send(&i, sizeof(i), 0);
		     return true;
	     }));
	for (int i = 0; i < 10; i++) {
		message_queue::size_type received;
		unsigned int priority;
		int number;

		queue.receive(&number, sizeof(number), received, priority);
		sum += number;
	}
	step("its parent receives all of it", sum == 55);
	step("it is removed", message_queue::remove(name.c_str()));
}

int main()
{
	std::string prefix = "shmbroker-boost-" + std::to_string(getpid());

	try {
		objects(prefix + "-object");
		managed(prefix + "-managed");
		messages(prefix + "-queue");
	} catch (const std::exception &error) {
		std::cout << "WRONG: " << error.what() << std::endl;
		return 1;
	}
	return exit_status;
}
